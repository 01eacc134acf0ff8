// The recurrent stack. What does not depend on the step before is one product over the whole
// window: the inputs' share of the gates forward, the inputs' and the weights' gradients backward.
// Inside the recurrence remain h·Wh and d_z·Whᵀ, a few rows by one weight matrix, T times each.
#include <algorithm>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"

namespace ptb {
namespace {

// Rows of cells below which the threads' barrier costs more than the arithmetic.
constexpr std::int64_t kCellGrain = 5;

struct LayerKernel {
  MatrixView input;      // Wx [H,4H]
  MatrixView recurrent;  // Wh [H,4H]
};

// x comes first in the kernel's rows, then h.
LayerKernel split_kernel(const Tensor& kernel) {
  const std::int64_t H = kernel.shape()[0] / 2;
  const std::int64_t columns = kernel.shape()[1];
  const float* data = kernel.data<float>();
  return {{data, H, columns}, {data + H * columns, H, columns}};
}

// [T,B,n] as a matrix of T·B rows.
MatrixView rows_of(const Tensor& x) {
  return {x.data<float>(), x.shape()[0] * x.shape()[1], x.shape()[2]};
}

// Entry t of [T,B,n] as a matrix of B rows.
MatrixView step_of(const Tensor& x, std::int64_t t) {
  const std::int64_t B = x.shape()[1], n = x.shape()[2];
  return {x.data<float>() + t * B * n, B, n};
}

float* address(const Tensor& x, std::int64_t t, std::int64_t b) {
  return x.data<float>() + (t * x.shape()[1] + b) * x.shape()[2];
}

void copy(const float* from, std::int64_t n, float* to) { std::copy(from, from + n, to); }

}  // namespace

void CpuBackend::stack(const StackForward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], B = a.input.shape()[1], H = a.input.shape()[2];
  const auto forget_bias = static_cast<float>(op.cell.forget_bias);
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  for (std::size_t l = 0; l < op.weights.layers.size(); ++l) {
    const LayerKernel kernel = split_kernel(op.weights.layers[l].kernel);
    const float* bias = op.weights.layers[l].bias.data<float>();
    const Tensor &gates = a.gates[l], &hidden = a.hidden[l], &cell = a.cell[l];
    const auto layer = static_cast<std::int64_t>(l);
    float* h_state = address(op.h, layer, 0);
    float* c_state = address(op.c, layer, 0);

    const Tensor& input = l == 0 ? a.input : a.outputs[l - 1];
    products_.multiply(rows_of(input), kernel.input, gates.data<float>());
    copy(h_state, B * H, address(hidden, 0, 0));
    copy(c_state, B * H, address(cell, 0, 0));
    for (std::int64_t t = 0; t < T; ++t) {
      products_.multiply_packed(step_of(hidden, t), kernel.recurrent, op.weights.version, true,
                                address(gates, t, 0));
      parallel_for(threads_, B, kCellGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
          loops::lstm_forward(H, forget_bias, bias, address(gates, t, b), address(cell, t, b),
                              address(cell, t + 1, b), address(hidden, t + 1, b));
        }
      });
    }
    copy(address(hidden, T, 0), B * H, h_state);
    copy(address(cell, T, 0), B * H, c_state);

    const float* h = address(hidden, 1, 0);
    float* out = a.outputs[l].data<float>();
    if (!op.dropout.masks.empty()) {
      const std::uint8_t* keep = op.dropout.masks[layer + 1].data<std::uint8_t>();
      parallel_for(threads_, T * B * H, 4096, [&](std::int64_t begin, std::int64_t end) {
        loops::drop(end - begin, scale, keep + begin, h + begin, out + begin);
      });
    } else if (out != h) {
      copy(h, T * B * H, out);
    }
  }
}

void CpuBackend::stack_backward(const StackBackward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], B = a.input.shape()[1], H = a.input.shape()[2];
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  const auto BH = static_cast<std::size_t>(B * H);
  std::vector<float> d_h(BH), d_c(BH);  // of the step in hand; small beside the window's tensors
  for (std::size_t l = op.weights.layers.size(); l-- > 0;) {
    const LayerKernel kernel = split_kernel(op.weights.layers[l].kernel);
    const Tensor &gates = a.gates[l], &cell = a.cell[l];
    const auto layer = static_cast<std::int64_t>(l);
    const std::uint8_t* keep =
        op.dropout.masks.empty() ? nullptr : op.dropout.masks[layer + 1].data<std::uint8_t>();
    std::fill(d_h.begin(), d_h.end(), 0.0f);
    std::fill(d_c.begin(), d_c.end(), 0.0f);
    for (std::int64_t t = T - 1; t >= 0; --t) {
      parallel_for(threads_, B, kCellGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
          // h[t] is seen by the next step, whose share is in d_h already, and by the layer above.
          float* d_h_row = d_h.data() + b * H;
          const float* d_out = address(op.d_io, t, b);
          if (keep != nullptr) {
            loops::add_dropped(H, scale, keep + (t * B + b) * H, d_out, d_h_row);
          } else {
            loops::add_scaled(H, 1.0f, d_out, d_h_row);
          }
          loops::lstm_backward(H, address(gates, t, b), address(cell, t, b),
                               address(cell, t + 1, b), d_h_row, d_c.data() + b * H);
        }
      });
      if (t == 0) break;  // gradients stop at the window's beginning
      products_.multiply_packed(step_of(gates, t), kernel.recurrent.transpose(), op.weights.version,
                                false, d_h.data());
    }
    products_.multiply(rows_of(gates), kernel.input.transpose(), op.d_io.data<float>());
  }
}

void CpuBackend::layer_weight_gradient(const LayerWeightGradient& op) {
  const auto l = static_cast<std::size_t>(op.layer);
  const StackActivations& a = op.activations;
  const MatrixView d_z = rows_of(a.gates[l]);
  const std::int64_t H = a.input.shape()[2];
  const Tensor& input = l == 0 ? a.input : a.outputs[l - 1];
  MatrixView h_before = rows_of(a.hidden[l]);
  h_before.rows = d_z.rows;  // entries 0 .. T-1 of T+1
  float* d_kernel = op.d_kernel.data<float>();
  products_.multiply(rows_of(input).transpose(), d_z, d_kernel);
  products_.multiply(h_before.transpose(), d_z, d_kernel + H * d_z.columns);
  sum_rows(a.gates[l].view({d_z.rows, d_z.columns}), op.d_bias);
}

}  // namespace ptb
