// Projection, softmax and cross-entropy. The gradient of the logits overwrites them.
#include <cstddef>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "backend/cuda/reduce.hpp"
#include "ptb_dist/backend/cell_math.hpp"

namespace ptb::cuda {
namespace {

// One block per row. It reads the row three times (40 kB for 10,000 logits): once from memory, then
// from the caches. The largest logit is subtracted before the exponential, so nothing overflows. A
// NaN anywhere makes the sum, and so the loss, NaN.
//   losses[row] = log Σ exp(logits + bias) - (logits + bias)[target]
//   logits = scale · (softmax(logits + bias) - onehot), unless scale is 0
__global__ void __launch_bounds__(kReduceThreads)
    softmax_rows(float* __restrict__ logits, const float* __restrict__ bias,
                 const std::int32_t* __restrict__ targets, std::int64_t V, float scale,
                 double* __restrict__ losses) {
  float* const row = logits + blockIdx.x * V;
  const std::int64_t target = targets[blockIdx.x];
  // Read before the barriers of the reductions, because it is overwritten after them.
  const float target_logit = row[target] + bias[target];

  float largest = row[0] + bias[0];
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    largest = Maximum{}(largest, row[v] + bias[v]);
  }
  largest = reduce_block(largest, Maximum{});

  float sum = 0;
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    sum += cell::exponential(row[v] + bias[v] - largest);
  }
  sum = reduce_block(sum, Sum{});
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = log(static_cast<double>(sum)) + static_cast<double>(largest) -
                         static_cast<double>(target_logit);
  }

  if (scale == 0) return;
  const float factor = scale / sum;
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    const float probability = cell::exponential(row[v] + bias[v] - largest) * factor;
    row[v] = v == target ? probability - scale : probability;
  }
}

// One block: sum = Σ values, in an order that n fixes.
__global__ void __launch_bounds__(kReduceThreads)
    sum_up(const double* __restrict__ values, std::int64_t n, double* __restrict__ sum) {
  const double all = sum_of(values, n);
  if (threadIdx.x == 0) *sum = all;
}

// A block has 32 neighbouring columns, so that a warp reads whole cache lines. It has 8 warps; warp
// w sums the rows w, w + 8, ... With one thread per column, 700 rows of 10,000 columns would use
// only a third of the threads of an H100. In double, because a float rounds once for each of
// hundreds of rows.
constexpr unsigned kColumns = 32, kRowsAtOnce = 8;

__global__ void __launch_bounds__(kColumns* kRowsAtOnce)
    sum_columns(const float* __restrict__ x, std::int64_t rows, std::int64_t columns,
                float* __restrict__ out) {
  PTB_SHARED(double, partial, kColumns* kRowsAtOnce);
  const std::int64_t column = std::int64_t{blockIdx.x} * kColumns + threadIdx.x;
  double mine = 0;
  if (column < columns) {
    for (std::int64_t row = threadIdx.y; row < rows; row += kRowsAtOnce) {
      mine += static_cast<double>(x[row * columns + column]);
    }
  }
  partial[threadIdx.y * kColumns + threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  double sum = 0;
  for (unsigned k = 0; k < kRowsAtOnce; ++k) sum += partial[k * kColumns + threadIdx.x];
  out[column] = static_cast<float>(sum);
}

MatrixView matrix(const Tensor& x) { return {x.data<float>(), x.shape()[0], x.shape()[1]}; }

}  // namespace

void CudaBackend::softmax_loss(const SoftmaxLoss& op) {
  const std::int64_t N = op.hidden.shape()[0];
  const std::int64_t V = op.weights.softmax_weight.shape()[1];
  double* const losses = row_losses_.get<double>(static_cast<std::size_t>(N));
  queue(0).products().multiply(matrix(op.hidden), matrix(op.weights.softmax_weight),
                               op.logits.data<float>());
  launch(softmax_rows, {static_cast<unsigned>(N), kReduceThreads, stream()},
         op.logits.data<float>(), op.weights.softmax_bias.data<float>(),
         op.targets.data<std::int32_t>(), V, static_cast<float>(op.gradient_scale), losses);
  launch(sum_up, {1, kReduceThreads, stream()}, losses, N, op.loss.data<double>());
}

void CudaBackend::softmax_backward(const SoftmaxBackward& op) {
  const MatrixView d_logits = queue(0).products().converted(matrix(op.d_logits), shared_operand_);
  fork();
  queue(0).products().multiply(d_logits, matrix(op.weights.softmax_weight).transpose(),
                               op.d_hidden.data<float>());
  queue(1).products().multiply(matrix(op.hidden).transpose(), d_logits, op.d_weight.data<float>());
  sum_rows(d_logits.data, d_logits.rows, d_logits.columns, op.d_bias.data<float>(),
           queue(2).stream());
  join();
}

void CudaBackend::sum_rows(const float* x, std::int64_t rows, std::int64_t columns, float* out,
                           cudaStream_t stream) {
  launch(sum_columns, {blocks_of(columns, kColumns), dim3(kColumns, kRowsAtOnce), stream}, x, rows,
         columns, out);
}

}  // namespace ptb::cuda
