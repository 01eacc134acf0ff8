// The recurrent stack. Whatever does not depend on the previous step is computed outside the
// recurrence, as products over many steps: in the forward pass the inputs' share of the gates, in
// the backward pass the gradients of inputs and weights. Inside remain h·Wh and d_z·Whᵀ, each
// followed by one kernel over the cells.
//
// These are small and wait for each other, so layers run side by side, each on its own queue if
// there are enough queues: a layer begins with the first steps of a window as soon as the layer
// before it has finished them and continues with the next ones.
#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "ptb_dist/backend/cell_math.hpp"

namespace ptb::cuda {
namespace {

// A thread has one unit of one lane; neighbouring threads have neighbouring units, so all reads
// coalesce. 20 lanes of 1500 units make 235 blocks of 128, two for each of 132 multiprocessors.
constexpr unsigned kThreads = 128;

// The place of a thread's cell in the arrays: its unit in [B,H], its first gate in [B,G·H], and its
// number within the layer.
struct CellIndex {
  std::int64_t unit, gate, k;
};

__device__ CellIndex cell_index(std::int64_t index, std::int64_t H, int gates) {
  return {index, index / H * gates * H + index % H, index % H};
}

// A pointer is null if the kind of cell does not have the array.
struct ForwardStep {
  float* gates;       // [B,G·H] pre-activations without the bias; activations
  float* share;       // [B,G·H] of a cell with a recurrent share, without its bias; with it
  const float* bias;  // [G·H]
  const float* recurrent_bias;  // [G·H]
  const float* c_before;        // [B,H]
  float* c;                     // [B,H]
  const float* h_before;        // [B,H]
  float* h;                     // [B,H]
  // [B,H] the next layer's input: dropped if there are masks, null if h serves.
  const std::uint8_t* masks;
  float* out;
  float scale;        // of what dropout keeps
  float forget_bias;  // of the lstm
};

__device__ void write_output(const ForwardStep& s, std::int64_t unit, float h) {
  s.h[unit] = h;
  if (s.out == nullptr) return;
  s.out[unit] = s.masks == nullptr ? h : cell::dropped(h, s.masks[unit], s.scale);
}

__global__ void __launch_bounds__(kThreads)
    lstm_forward_step(ForwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 4);
  const cell::LstmUnit<float> u = cell::lstm_forward(
      s.gates[gate] + s.bias[k], s.gates[gate + H] + s.bias[k + H],
      s.gates[gate + 2 * H] + s.bias[k + 2 * H], s.gates[gate + 3 * H] + s.bias[k + 3 * H],
      s.c_before[unit], s.forget_bias);
  s.gates[gate] = u.i;
  s.gates[gate + H] = u.j;
  s.gates[gate + 2 * H] = u.f;
  s.gates[gate + 3 * H] = u.o;
  s.c[unit] = u.c;
  write_output(s, unit, u.h);
}

__global__ void __launch_bounds__(kThreads)
    gru_forward_step(ForwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 3);
  const float sn = s.share[gate + 2 * H] + s.recurrent_bias[k + 2 * H];
  const cell::GruUnit<float> u = cell::gru_forward(
      s.gates[gate] + s.bias[k], s.gates[gate + H] + s.bias[k + H],
      s.gates[gate + 2 * H] + s.bias[k + 2 * H], s.share[gate] + s.recurrent_bias[k],
      s.share[gate + H] + s.recurrent_bias[k + H], sn, s.h_before[unit]);
  s.gates[gate] = u.r;
  s.gates[gate + H] = u.z;
  s.gates[gate + 2 * H] = u.n;
  s.share[gate + 2 * H] = sn;
  write_output(s, unit, u.h);
}

__global__ void __launch_bounds__(kThreads)
    rnn_forward_step(ForwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 1);
  const float h = cell::rnn_forward(s.gates[gate] + s.bias[k]);
  s.gates[gate] = h;
  write_output(s, unit, h);
}

struct BackwardStep {
  float* gates;               // [B,G·H] activations; d_z
  float* share;               // [B,G·H] of a cell with a recurrent share; its gradient
  const float* c_before;      // [B,H]
  const float* c;             // [B,H]
  const float* h_before;      // [B,H]
  const float* d_out;         // [B,H] of the layer's output, before its dropout
  const std::uint8_t* masks;  // [B,H] or null
  // [B,H] the gradient from the next step; not read at the last step of the window, which has none.
  // For a cell with a recurrent share it becomes the part of h_before's gradient that passes
  // through no product.
  float* d_h;
  float* d_c;
  bool is_last;
  float scale;  // of what dropout keeps
};

// The gradient of h[t]: h[t] is used by the next step and by the layer above.
__device__ float gradient_of_h(const BackwardStep& s, std::int64_t unit) {
  const float d_h =
      s.masks == nullptr ? s.d_out[unit] : cell::dropped(s.d_out[unit], s.masks[unit], s.scale);
  return s.is_last ? d_h : d_h + s.d_h[unit];
}

__global__ void __launch_bounds__(kThreads)
    lstm_backward_step(BackwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 4);
  const float d_c = s.is_last ? 0.0f : s.d_c[unit];
  const cell::LstmUnitGradient<float> d = cell::lstm_backward(
      s.gates[gate], s.gates[gate + H], s.gates[gate + 2 * H], s.gates[gate + 3 * H],
      s.c_before[unit], s.c[unit], gradient_of_h(s, unit), d_c);
  s.gates[gate] = d.zi;
  s.gates[gate + H] = d.zj;
  s.gates[gate + 2 * H] = d.zf;
  s.gates[gate + 3 * H] = d.zo;
  s.d_c[unit] = d.c_before;
}

__global__ void __launch_bounds__(kThreads)
    gru_backward_step(BackwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 3);
  const cell::GruUnitGradient<float> d =
      cell::gru_backward(s.gates[gate], s.gates[gate + H], s.gates[gate + 2 * H],
                         s.share[gate + 2 * H], s.h_before[unit], gradient_of_h(s, unit));
  s.gates[gate] = d.xr;
  s.gates[gate + H] = d.xz;
  s.gates[gate + 2 * H] = d.xn;
  s.share[gate] = d.xr;
  s.share[gate + H] = d.xz;
  s.share[gate + 2 * H] = d.sn;
  s.d_h[unit] = d.h_before;
}

__global__ void __launch_bounds__(kThreads)
    rnn_backward_step(BackwardStep s, std::int64_t cells, std::int64_t H) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate, k] = cell_index(index, H, 1);
  s.gates[gate] = cell::rnn_backward(s.gates[gate], gradient_of_h(s, unit));
}

struct LayerKernel {
  MatrixView input;      // Wx [H,G·H]
  MatrixView recurrent;  // Wh [H,G·H]
};

// x comes first in the kernel's rows, then h.
LayerKernel split_kernel(const Tensor& kernel) {
  const std::int64_t H = kernel.shape()[0] / 2, columns = kernel.shape()[1];
  const float* data = kernel.data<float>();
  return {{data, H, columns}, {data + H * columns, H, columns}};
}

// [T,B,n] as a matrix of T·B rows.
MatrixView rows_of(const Tensor& x) {
  return {x.data<float>(), x.shape()[0] * x.shape()[1], x.shape()[2]};
}

// Entry t of [T,B,n].
float* entry(const Tensor& x, std::int64_t t) {
  return x.data<float>() + t * x.shape()[1] * x.shape()[2];
}

MatrixView step_of(const Tensor& x, std::int64_t t) {
  return {entry(x, t), x.shape()[1], x.shape()[2]};
}

// [T·B,H] of a layer's output, or null.
const std::uint8_t* masks_of(const Dropout& dropout, std::size_t layer) {
  if (dropout.masks.empty()) return nullptr;
  return dropout.masks[static_cast<std::int64_t>(layer) + 1].data<std::uint8_t>();
}

const Tensor& input_of(const StackActivations& a, std::size_t layer) {
  return layer == 0 ? a.input : a.outputs[layer - 1];
}

// A piece of a window, steps first .. first + count - 1, that a layer passes to the next at a time.
struct Piece {
  std::int64_t first = 0, count = 0;
};

std::vector<Piece> pieces_of(std::int64_t steps, std::int64_t length) {
  std::vector<Piece> pieces;
  for (std::int64_t first = 0; first < steps; first += length) {
    pieces.push_back({first, std::min(length, steps - first)});
  }
  return pieces;
}

MatrixView rows_of(const Tensor& x, const Piece& piece) {
  return rows_of(x.slice(piece.first, piece.count));
}

void copy(const float* from, std::int64_t elements, float* to, const Queue& queue) {
  if (elements == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(elements) * sizeof(float),
                        cudaMemcpyDeviceToDevice, queue.stream()));
}

// Entry t of a tensor, or null if the cell has none.
float* entry_or_null(const Tensor& x, std::int64_t t) { return x.empty() ? nullptr : entry(x, t); }

// Step t of layer l. The gates already hold the inputs' share.
void step_forward(const StackForward& op, std::size_t l, std::int64_t t, Queue& queue) {
  const StackActivations& a = op.activations;
  const std::int64_t H = a.input.shape()[2];
  const std::int64_t cells = a.input.shape()[1] * H;  // of one step: B·H
  const std::uint8_t* masks = masks_of(op.dropout, l);
  const Weights::Layer& weights = op.weights.layers[l];
  const bool has_share = traits_of(op.cell.kind).has_recurrent_share;
  // Without dropout a layer's output may be its hidden state.
  const bool has_output = a.outputs[l].raw() != entry(a.hidden[l], 1);
  queue.products().multiply(step_of(a.hidden[l], t), split_kernel(weights.kernel).recurrent,
                            entry(has_share ? a.shares[l] : a.gates[l], t),
                            has_share ? Products::Into::overwrite : Products::Into::add);
  const ForwardStep step{
      .gates = entry(a.gates[l], t),
      .share = entry_or_null(a.shares[l], t),
      .bias = weights.bias.data<float>(),
      .recurrent_bias = has_share ? weights.recurrent_bias.data<float>() : nullptr,
      .c_before = entry_or_null(a.cell[l], t),
      .c = entry_or_null(a.cell[l], t + 1),
      .h_before = entry(a.hidden[l], t),
      .h = entry(a.hidden[l], t + 1),
      .masks = masks == nullptr ? nullptr : masks + t * cells,
      .out = has_output ? entry(a.outputs[l], t) : nullptr,
      .scale = static_cast<float>(1.0 / op.dropout.keep_prob),
      .forget_bias = static_cast<float>(op.cell.forget_bias)};
  const unsigned blocks = blocks_of(cells, kThreads);
  switch (op.cell.kind) {
    case CellKind::lstm:
      return launch(lstm_forward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
    case CellKind::gru:
      return launch(gru_forward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
    case CellKind::rnn:
      return launch(rnn_forward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
  }
}

// Step t of layer l backwards; leaves the gradients for step t - 1 in d_h, d_c [B,H] of the layer.
void step_backward(const StackBackward& op, std::size_t l, std::int64_t t, float* d_h, float* d_c,
                   Queue& queue) {
  const StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], H = a.input.shape()[2];
  const std::int64_t cells = a.input.shape()[1] * H;
  const std::uint8_t* masks = masks_of(op.dropout, l);
  const bool has_share = traits_of(op.cell.kind).has_recurrent_share;
  const BackwardStep step{.gates = entry(a.gates[l], t),
                          .share = entry_or_null(a.shares[l], t),
                          .c_before = entry_or_null(a.cell[l], t),
                          .c = entry_or_null(a.cell[l], t + 1),
                          .h_before = entry(a.hidden[l], t),
                          .d_out = entry(op.d_io, t),
                          .masks = masks == nullptr ? nullptr : masks + t * cells,
                          .d_h = d_h,
                          .d_c = d_c,
                          .is_last = t == T - 1,
                          .scale = static_cast<float>(1.0 / op.dropout.keep_prob)};
  const unsigned blocks = blocks_of(cells, kThreads);
  switch (op.cell.kind) {
    case CellKind::lstm:
      launch(lstm_backward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
      break;
    case CellKind::gru:
      launch(gru_backward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
      break;
    case CellKind::rnn:
      launch(rnn_backward_step, {blocks, kThreads, queue.stream()}, step, cells, H);
      break;
  }
  if (t == 0) return;  // gradients stop at the window's beginning
  queue.products().multiply(step_of(has_share ? a.shares[l] : a.gates[l], t),
                            split_kernel(op.weights.layers[l].kernel).recurrent.transpose(), d_h,
                            has_share ? Products::Into::add : Products::Into::overwrite);
}

}  // namespace

void CudaBackend::stack(const StackForward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0];
  const std::int64_t cells = a.input.shape()[1] * a.input.shape()[2];
  const std::size_t layers = op.weights.layers.size();
  const bool has_c = traits_of(op.cell.kind).has_c;
  const auto state = [](const Tensor& of_layers, std::size_t l) {
    return of_layers[static_cast<std::int64_t>(l)].data<float>();
  };
  const auto multiply_input = [&](std::size_t l, const Piece& piece) {
    queue(l).products().multiply(rows_of(input_of(a, l), piece),
                                 split_kernel(op.weights.layers[l].kernel).input,
                                 entry(a.gates[l], piece.first));
  };
  fork();
  for (std::size_t l = 0; l < layers; ++l) {
    copy(state(op.h, l), cells, entry(a.hidden[l], 0), queue(l));
    if (has_c) copy(state(op.c, l), cells, entry(a.cell[l], 0), queue(l));
  }
  multiply_input(0, {0, T});  // the bottom layer's input is complete
  for (const Piece& piece : pieces_of(T, overlap_.piece)) {
    for (std::size_t l = 0; l < layers; ++l) {
      if (l > 0) {
        queue(l).wait_for(queue(l - 1));
        multiply_input(l, piece);
      }
      for (std::int64_t t = piece.first; t < piece.first + piece.count; ++t) {
        step_forward(op, l, t, queue(l));
      }
    }
  }
  for (std::size_t l = 0; l < layers; ++l) {
    copy(entry(a.hidden[l], T), cells, state(op.h, l), queue(l));
    if (has_c) copy(entry(a.cell[l], T), cells, state(op.c, l), queue(l));
  }
  join();
}

void CudaBackend::stack_backward(const StackBackward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0];
  const std::int64_t cells = a.input.shape()[1] * a.input.shape()[2];
  const std::size_t layers = op.weights.layers.size();
  float* const d_h = d_h_.get<float>(layers * static_cast<std::size_t>(cells));
  float* const d_c = d_c_.get<float>(layers * static_cast<std::size_t>(cells));
  const auto multiply_input = [&](std::size_t l, const Piece& piece) {
    queue(l).products().multiply(rows_of(a.gates[l], piece),
                                 split_kernel(op.weights.layers[l].kernel).input.transpose(),
                                 entry(op.d_io, piece.first));
  };
  std::vector<Piece> pieces = pieces_of(T, overlap_.piece);
  std::reverse(pieces.begin(), pieces.end());
  // Only the top layer reads the result of the first queue; the others wait for it layer by layer.
  queue(layers - 1).wait_for(queue(0));
  for (const Piece& piece : pieces) {
    for (std::size_t l = layers; l-- > 0;) {
      if (l + 1 < layers) queue(l).wait_for(queue(l + 1));
      const std::int64_t own = static_cast<std::int64_t>(l) * cells;
      for (std::int64_t t = piece.first + piece.count; t-- > piece.first;) {
        step_backward(op, l, t, d_h + own, d_c + own, queue(l));
      }
      if (l > 0) multiply_input(l, piece);
    }
  }
  // Nothing waits for a part of this, so it is one product. No join is needed: the bottom layer, on
  // the first queue, has waited for all others.
  multiply_input(0, {0, T});
}

void CudaBackend::layer_weight_gradient(const LayerWeightGradient& op) {
  const auto l = static_cast<std::size_t>(op.layer);
  const StackActivations& a = op.activations;
  const bool has_share = !op.d_recurrent_bias.empty();
  const MatrixView d_z = queue(0).products().converted(rows_of(a.gates[l]), shared_operand_);
  const MatrixView d_share = has_share ? rows_of(a.shares[l]) : d_z;
  const std::int64_t H = a.input.shape()[2];
  MatrixView h_before = rows_of(a.hidden[l]);
  h_before.rows = d_z.rows;  // entries 0 .. T-1 of T+1
  float* const d_kernel = op.d_kernel.data<float>();
  fork();
  queue(0).products().multiply(rows_of(input_of(a, l)).transpose(), d_z, d_kernel);
  queue(1).products().multiply(h_before.transpose(), d_share, d_kernel + H * d_z.columns);
  sum_rows(d_z.data, d_z.rows, d_z.columns, op.d_bias.data<float>(), queue(2).stream());
  if (has_share) {
    sum_rows(d_share.data, d_share.rows, d_share.columns, op.d_recurrent_bias.data<float>(),
             queue(2).stream());
  }
  join();
}

}  // namespace ptb::cuda
