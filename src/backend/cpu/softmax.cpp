// Projection, softmax and cross-entropy. The logits are turned into their gradient where they lie.
#include <algorithm>
#include <array>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"

namespace ptb {
namespace {

MatrixView matrix(const Tensor& x) { return {x.data<float>(), x.shape()[0], x.shape()[1]}; }

}  // namespace

void CpuBackend::softmax_loss(const SoftmaxLoss& op) {
  const std::int64_t N = op.hidden.shape()[0];
  const std::int64_t V = op.weights.softmax_weight.shape()[1];
  const float* bias = op.weights.softmax_bias.data<float>();
  const std::int32_t* targets = op.targets.data<std::int32_t>();
  float* logits = op.logits.data<float>();
  products_->multiply_weights(matrix(op.hidden),
                              {matrix(op.weights.softmax_weight), op.weights.version}, logits);
  // Rows are summed in their order afterwards, so the loss does not depend on the threads.
  std::vector<double> cross_entropy(static_cast<std::size_t>(N));
  parallel_for(threads_, N, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      cross_entropy[static_cast<std::size_t>(row)] = loops::softmax_row(
          V, static_cast<float>(op.gradient_scale), bias, targets[row], logits + row * V);
    }
  });
  double sum = 0;
  for (const double row : cross_entropy) sum += row;
  *op.loss.data<double>() = sum;
}

void CpuBackend::softmax_backward(const SoftmaxBackward& op) {
  const MatrixView d_logits = sum_rows(matrix(op.d_logits), d_logits_, op.d_bias);
  const WeightView weight{matrix(op.weights.softmax_weight), op.weights.version};
  products_->multiply_weights(d_logits, weight.transpose(), op.d_hidden.data<float>());
  products_->multiply(matrix(op.hidden).transpose(), d_logits, op.d_weight.data<float>());
}

MatrixView CpuBackend::sum_rows(const MatrixView& x, Operands& operands, const Tensor& out) const {
  const std::int64_t rows = x.rows, columns = x.columns;
  MatrixView result = x;
  Bf16* const converted = operands.get(rows, columns);
  result.converted = converted;
  float* sums = out.data<float>();
  // Blocks of columns: every thread reads its own part of each row, in row order. In double, since
  // a float that takes in hundreds of rows one by one loses as many roundings: this was the largest
  // error of the gradient's norm.
  constexpr std::int64_t kBlock = 256;
  parallel_for(threads_, columns, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin; first < end; first += kBlock) {
      const std::int64_t width = std::min(kBlock, end - first);
      std::array<double, kBlock> block{};
      for (std::int64_t row = 0; row < rows; ++row) {
        const float* from = x.data + row * columns + first;
        loops::add_to_sums(width, from, block.data());
        if (converted != nullptr) {
          loops::convert(width, from, converted + row * padded(columns) + first);
        }
      }
      for (std::int64_t k = 0; k < width; ++k) {
        sums[first + k] = static_cast<float>(block[static_cast<std::size_t>(k)]);
      }
    }
  });
  return result;
}

}  // namespace ptb
