// The recurrent stack. What does not depend on the step before is taken out of the recurrence, as
// products over many steps: the inputs' share of the gates forward, the inputs' and the weights'
// gradients backward. Inside remain h·Wh and d_z·Whᵀ, each followed by one kernel over the cells.
//
// These are small and wait for each other, so layers run side by side, each on a queue of its own as
// long as there are queues: a layer begins with the first steps of a window as soon as the layer before is through with them,
// which goes on with the next ones.
#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "ptb_dist/backend/cell_math.hpp"

namespace ptb::cuda {
namespace {

// A thread has one unit of one lane; neighbours have neighbouring units, so all reads coalesce. Of
// 20 lanes of 1500 units come 235 blocks of 128, two for each of 132 multiprocessors.
constexpr unsigned kThreads = 128;

// What a thread's cell has of every array: its unit in [B,H], and its gate i in [B,4H].
struct CellIndex {
  std::int64_t unit, gate;
};

__device__ CellIndex cell_index(std::int64_t index, std::int64_t H) {
  return {index, index / H * 4 * H + index % H};
}

struct ForwardStep {
  float* gates;           // [B,4H] pre-activations without the bias; activations
  const float* bias;      // [4H]
  const float* c_before;  // [B,H]
  float* c;               // [B,H]
  float* h;               // [B,H]
  // [B,H] the next layer's input: dropped if there are masks, null if h serves.
  const std::uint8_t* masks;
  float* out;
};

__global__ void __launch_bounds__(kThreads)
    forward_step(ForwardStep s, std::int64_t cells, std::int64_t H, float forget_bias,
                 float scale) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate] = cell_index(index, H);
  const std::int64_t k = index % H;
  const cell::LstmUnit<float> u =
      cell::lstm_forward(s.gates[gate] + s.bias[k], s.gates[gate + H] + s.bias[k + H],
                         s.gates[gate + 2 * H] + s.bias[k + 2 * H],
                         s.gates[gate + 3 * H] + s.bias[k + 3 * H], s.c_before[unit], forget_bias);
  s.gates[gate] = u.i;
  s.gates[gate + H] = u.j;
  s.gates[gate + 2 * H] = u.f;
  s.gates[gate + 3 * H] = u.o;
  s.c[unit] = u.c;
  s.h[unit] = u.h;
  if (s.out == nullptr) return;
  s.out[unit] = s.masks == nullptr ? u.h : cell::dropped(u.h, s.masks[unit], scale);
}

struct BackwardStep {
  float* gates;               // [B,4H] activations; d_z
  const float* c_before;      // [B,H]
  const float* c;             // [B,H]
  const float* d_out;         // [B,H] of the layer's output, before its dropout
  const std::uint8_t* masks;  // [B,H] or null
  // [B,H] what the next step gives back. At the window's last step there is none: not read.
  const float* d_h;
  float* d_c;
};

__global__ void __launch_bounds__(kThreads)
    backward_step(BackwardStep s, bool is_last, std::int64_t cells, std::int64_t H, float scale) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= cells) return;
  const auto [unit, gate] = cell_index(index, H);
  // h[t] is seen by the next step, and by the layer above.
  float d_h =
      s.masks == nullptr ? s.d_out[unit] : cell::dropped(s.d_out[unit], s.masks[unit], scale);
  if (!is_last) d_h += s.d_h[unit];
  const float d_c = is_last ? 0.0f : s.d_c[unit];
  const cell::LstmUnitGradient<float> d =
      cell::lstm_backward(s.gates[gate], s.gates[gate + H], s.gates[gate + 2 * H],
                          s.gates[gate + 3 * H], s.c_before[unit], s.c[unit], d_h, d_c);
  s.gates[gate] = d.zi;
  s.gates[gate + H] = d.zj;
  s.gates[gate + 2 * H] = d.zf;
  s.gates[gate + 3 * H] = d.zo;
  s.d_c[unit] = d.c_before;
}

struct LayerKernel {
  MatrixView input;      // Wx [H,4H]
  MatrixView recurrent;  // Wh [H,4H]
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

// Steps first .. first + count - 1 of a window, which one layer passes on to the next at a time.
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

// Step t of layer l, whose gates hold the inputs' share.
void step_forward(const StackForward& op, std::size_t l, std::int64_t t, Queue& queue) {
  const StackActivations& a = op.activations;
  const std::int64_t H = a.input.shape()[2];
  const std::int64_t cells = a.input.shape()[1] * H;  // of one step: B·H
  const std::uint8_t* masks = masks_of(op.dropout, l);
  // Without dropout a layer's output may be its hidden state.
  const bool has_output = a.outputs[l].raw() != entry(a.hidden[l], 1);
  queue.products().multiply(step_of(a.hidden[l], t),
                            split_kernel(op.weights.layers[l].kernel).recurrent,
                            entry(a.gates[l], t), Products::Into::add);
  launch(forward_step, {blocks_of(cells, kThreads), kThreads, queue.stream()},
         ForwardStep{.gates = entry(a.gates[l], t),
                     .bias = op.weights.layers[l].bias.data<float>(),
                     .c_before = entry(a.cell[l], t),
                     .c = entry(a.cell[l], t + 1),
                     .h = entry(a.hidden[l], t + 1),
                     .masks = masks == nullptr ? nullptr : masks + t * cells,
                     .out = has_output ? entry(a.outputs[l], t) : nullptr},
         cells, H, static_cast<float>(op.cell.forget_bias),
         static_cast<float>(1.0 / op.dropout.keep_prob));
}

// Step t of layer l, and what it gives back to the step before: d_h, d_c [B,H] of the layer.
void step_backward(const StackBackward& op, std::size_t l, std::int64_t t, float* d_h, float* d_c,
                   Queue& queue) {
  const StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0], H = a.input.shape()[2];
  const std::int64_t cells = a.input.shape()[1] * H;
  const std::uint8_t* masks = masks_of(op.dropout, l);
  launch(backward_step, {blocks_of(cells, kThreads), kThreads, queue.stream()},
         BackwardStep{.gates = entry(a.gates[l], t),
                      .c_before = entry(a.cell[l], t),
                      .c = entry(a.cell[l], t + 1),
                      .d_out = entry(op.d_io, t),
                      .masks = masks == nullptr ? nullptr : masks + t * cells,
                      .d_h = d_h,
                      .d_c = d_c},
         t == T - 1, cells, H, static_cast<float>(1.0 / op.dropout.keep_prob));
  if (t == 0) return;  // gradients stop at the window's beginning
  queue.products().multiply(step_of(a.gates[l], t),
                            split_kernel(op.weights.layers[l].kernel).recurrent.transpose(), d_h);
}

}  // namespace

void CudaBackend::stack(const StackForward& op) {
  StackActivations& a = op.activations;
  const std::int64_t T = a.input.shape()[0];
  const std::int64_t cells = a.input.shape()[1] * a.input.shape()[2];
  const std::size_t layers = op.weights.layers.size();
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
    copy(state(op.c, l), cells, entry(a.cell[l], 0), queue(l));
  }
  multiply_input(0, {0, T});  // is all there
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
    copy(entry(a.cell[l], T), cells, state(op.c, l), queue(l));
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
  // What the first queue leaves, the top layer alone reads; the others wait for it layer by layer.
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
  // Nobody waits for a part of it. No join: the lowest layer, on the first queue, has waited for all.
  multiply_input(0, {0, T});
}

void CudaBackend::layer_weight_gradient(const LayerWeightGradient& op) {
  const auto l = static_cast<std::size_t>(op.layer);
  const StackActivations& a = op.activations;
  const MatrixView d_z = queue(0).products().converted(rows_of(a.gates[l]), shared_operand_);
  const std::int64_t H = a.input.shape()[2];
  MatrixView h_before = rows_of(a.hidden[l]);
  h_before.rows = d_z.rows;  // entries 0 .. T-1 of T+1
  float* const d_kernel = op.d_kernel.data<float>();
  fork();
  queue(0).products().multiply(rows_of(input_of(a, l)).transpose(), d_z, d_kernel);
  queue(1).products().multiply(h_before.transpose(), d_z, d_kernel + H * d_z.columns);
  sum_rows(d_z.data, d_z.rows, d_z.columns, op.d_bias.data<float>(), queue(2).stream());
  join();
}

}  // namespace ptb::cuda
