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
  WeightView input;      // Wx [H,G·H]
  WeightView recurrent;  // Wh [H,G·H]
};

// x comes first in the kernel's rows, then h.
LayerKernel split_kernel(const Tensor& kernel, std::uint64_t version) {
  const std::int64_t H = kernel.shape()[0] / 2;
  const std::int64_t columns = kernel.shape()[1];
  const float* data = kernel.data<float>();
  return {.input = {{data, H, columns}, version},
          .recurrent = {{data + H * columns, H, columns}, version}};
}

std::int64_t offset(const Tensor& x, std::int64_t t, std::int64_t b) {
  return (t * x.shape()[1] + b) * x.shape()[2];
}

float* address(const Tensor& x, std::int64_t t, std::int64_t b) {
  return x.data<float>() + offset(x, t, b);
}

// [T,B,n] as a matrix of T·B rows; its values in bf16 or null.
MatrixView rows_of(const Tensor& x, const Bf16* converted = nullptr) {
  const Shape& shape = x.shape();
  return {x.data<float>(), shape[0] * shape[1], shape[2], false, converted};
}

// Row b of entry t of [T,B,n] in bf16.
template <class Value>
Value* row_in_bf16(const Tensor& x, std::int64_t t, std::int64_t b, Value* converted) {
  return converted == nullptr ? nullptr : converted + (t * x.shape()[1] + b) * padded(x.shape()[2]);
}

// Entry t of [T,B,n] as a matrix of B rows.
MatrixView step_of(const Tensor& x, std::int64_t t, const Bf16* converted) {
  return {address(x, t, 0), x.shape()[1], x.shape()[2], false, row_in_bf16(x, t, 0, converted)};
}

// What a loop has just written of x, for the products that read it.
void convert(const Tensor& x, std::int64_t t, std::int64_t b, Bf16* converted) {
  if (converted == nullptr) return;
  loops::convert(x.shape()[2], address(x, t, b), row_in_bf16(x, t, b, converted));
}

void copy(const float* from, std::int64_t n, float* to) { std::copy(from, from + n, to); }

// One layer of the stack and its share of the activations.
struct Layer {
  const Cell& spec;
  const Weights::Layer& weights;
  const CellTraits traits = traits_of(spec.kind);
  const LayerKernel kernel;
  const Tensor &gates, &share, &hidden, &cell;

  // Where h·Wh goes: onto the inputs' share of the gates, or to a place of its own.
  const Tensor& recurrent_share() const { return traits.has_recurrent_share ? share : gates; }
  Into recurrent_into() const { return traits.has_recurrent_share ? Into::overwrite : Into::add; }
};

Layer layer_of(const Cell& cell, const Weights& weights, const StackActivations& a, std::size_t l) {
  return {.spec = cell,
          .weights = weights.layers[l],
          .kernel = split_kernel(weights.layers[l].kernel, weights.version),
          .gates = a.gates[l],
          .share = a.shares[l],
          .hidden = a.hidden[l],
          .cell = a.cell[l]};
}

// The cells of lane b at step t.
void cell_forward(const Layer& layer, std::int64_t t, std::int64_t b) {
  const std::int64_t H = layer.hidden.shape()[2];
  const float* bias = layer.weights.bias.data<float>();
  float* z = address(layer.gates, t, b);
  float* h = address(layer.hidden, t + 1, b);
  switch (layer.spec.kind) {
    case CellKind::lstm:
      return loops::lstm_forward(H, static_cast<float>(layer.spec.forget_bias), bias, z,
                                 address(layer.cell, t, b), address(layer.cell, t + 1, b), h);
    case CellKind::gru:
      return loops::gru_forward(H, bias, layer.weights.recurrent_bias.data<float>(), z,
                                address(layer.share, t, b), address(layer.hidden, t, b), h);
    case CellKind::rnn:
      return loops::rnn_forward(H, bias, z, h);
  }
}

// d_h and d_c [H] are the gradients of the step's h and c; d_c becomes that of the step before.
// What does not pass through the product with the recurrent weights is left in d_h.
void cell_backward(const Layer& layer, std::int64_t t, std::int64_t b, float* d_h, float* d_c) {
  const std::int64_t H = layer.hidden.shape()[2];
  float* z = address(layer.gates, t, b);
  switch (layer.spec.kind) {
    case CellKind::lstm:
      return loops::lstm_backward(H, z, address(layer.cell, t, b), address(layer.cell, t + 1, b),
                                  d_h, d_c);
    case CellKind::gru:
      return loops::gru_backward(H, z, address(layer.share, t, b), address(layer.hidden, t, b),
                                 d_h);
    case CellKind::rnn:
      return loops::rnn_backward(H, z, d_h);
  }
}

}  // namespace

void CpuBackend::stack(const StackForward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], B = a.input.shape()[1], H = a.input.shape()[2];
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  const bool drops = !op.dropout.masks.empty();
  Bf16* const hidden16 = hidden_.get((T + 1) * B, H);  // of the layer in hand
  Bf16* const dropped16 = drops ? outputs_.get(T * B, H) : nullptr;
  MatrixView input = rows_of(a.input);
  for (std::size_t l = 0; l < op.weights.layers.size(); ++l) {
    const Layer layer = layer_of(op.cell, op.weights, a, l);
    const Tensor& hidden = layer.hidden;
    const auto index = static_cast<std::int64_t>(l);
    const bool has_c = layer.traits.has_c;

    products_->multiply_weights(input, layer.kernel.input, layer.gates.data<float>());
    copy(address(op.h, index, 0), B * H, address(hidden, 0, 0));
    if (has_c) copy(address(op.c, index, 0), B * H, address(layer.cell, 0, 0));
    for (std::int64_t b = 0; b < B; ++b) convert(hidden, 0, b, hidden16);
    for (std::int64_t t = 0; t < T; ++t) {
      products_->multiply_packed(step_of(hidden, t, hidden16), layer.kernel.recurrent,
                                 layer.recurrent_into(), address(layer.recurrent_share(), t, 0));
      parallel_for(threads_, B, kCellGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
          cell_forward(layer, t, b);
          convert(hidden, t + 1, b, hidden16);
        }
      });
    }
    copy(address(hidden, T, 0), B * H, address(op.h, index, 0));
    if (has_c) copy(address(layer.cell, T, 0), B * H, address(op.c, index, 0));

    const float* h = address(hidden, 1, 0);
    const Tensor& output = a.outputs[l];
    float* out = output.data<float>();
    if (drops) {
      const std::uint8_t* keep = op.dropout.masks[index + 1].data<std::uint8_t>();
      parallel_for(threads_, T * B, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          loops::drop(H, scale, keep + row * H, h + row * H, out + row * H);
          convert(output, 0, row, dropped16);
        }
      });
    } else if (out != h) {
      copy(h, T * B * H, out);
    }
    input = rows_of(output, drops ? dropped16 : row_in_bf16(hidden, 1, 0, hidden16));
  }
}

void CpuBackend::stack_backward(const StackBackward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], B = a.input.shape()[1], H = a.input.shape()[2];
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  const auto BH = static_cast<std::size_t>(B * H);
  std::vector<float> d_h(BH), d_c(BH);  // of the step in hand; small beside the window's tensors
  for (std::size_t l = op.weights.layers.size(); l-- > 0;) {
    const Layer layer = layer_of(op.cell, op.weights, a, l);
    const auto index = static_cast<std::int64_t>(l);
    const std::uint8_t* keep =
        op.dropout.masks.empty() ? nullptr : op.dropout.masks[index + 1].data<std::uint8_t>();
    const bool has_share = layer.traits.has_recurrent_share;
    const std::int64_t columns = layer.gates.shape()[2];
    Bf16* const d_z16 = d_gates_.get(T * B, columns);
    Bf16* const d_s16 = has_share ? d_shares_.get(T * B, columns) : d_z16;
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
          cell_backward(layer, t, b, d_h_row, d_c.data() + b * H);
          convert(layer.gates, t, b, d_z16);
          if (has_share) convert(layer.share, t, b, d_s16);
        }
      });
      if (t == 0) break;  // gradients stop at the window's beginning
      // Of a cell with a recurrent share a part of d_h has come past the product.
      products_->multiply_packed(step_of(layer.recurrent_share(), t, d_s16),
                                 layer.kernel.recurrent.transpose(),
                                 has_share ? Into::add : Into::overwrite, d_h.data());
    }
    products_->multiply_weights(rows_of(layer.gates, d_z16), layer.kernel.input.transpose(),
                                op.d_io.data<float>());
  }
}

void CpuBackend::layer_weight_gradient(const LayerWeightGradient& op) {
  const auto l = static_cast<std::size_t>(op.layer);
  const StackActivations& a = op.activations;
  const MatrixView d_z = sum_rows(rows_of(a.gates[l]), d_gates_, op.d_bias);
  const MatrixView d_share = op.d_recurrent_bias.empty()
                                 ? d_z
                                 : sum_rows(rows_of(a.shares[l]), d_shares_, op.d_recurrent_bias);
  const std::int64_t H = a.input.shape()[2];
  const Tensor& input = l == 0 ? a.input : a.outputs[l - 1];
  MatrixView h_before = rows_of(a.hidden[l]);
  h_before.rows = d_z.rows;  // entries 0 .. T-1 of T+1
  float* d_kernel = op.d_kernel.data<float>();
  products_->multiply(rows_of(input).transpose(), d_z, d_kernel);
  products_->multiply(h_before.transpose(), d_share, d_kernel + H * d_z.columns);
}

}  // namespace ptb
