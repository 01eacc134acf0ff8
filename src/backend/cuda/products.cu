#include "backend/cuda/products.hpp"

#include <cuda_bf16.h>

#include <string>

#include "backend/cuda/launch.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb::cuda {
namespace {

constexpr int kThreads = 256;

// to[k] = bf16(from[k])
__global__ void __launch_bounds__(kThreads)
    to_bf16(const float* __restrict__ from, std::int64_t n, __nv_bfloat16* __restrict__ to) {
  const std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < n) to[k] = __float2bfloat16(from[k]);
}

int stride_of(const MatrixView& matrix) {
  return static_cast<int>(matrix.transposed ? matrix.rows : matrix.columns);
}

cublasOperation_t operation_of(const MatrixView& matrix) {
  return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
}

cublasComputeType_t arithmetic(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return CUBLAS_COMPUTE_32F_PEDANTIC;
    case Precision::tf32:
      return CUBLAS_COMPUTE_32F_FAST_TF32;
    case Precision::bf16:
      return CUBLAS_COMPUTE_32F;
  }
  return CUBLAS_COMPUTE_32F;
}

const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16:
      return "bf16";
  }
  return "";
}

void convert(const float* from, std::int64_t elements, void* to, cudaStream_t stream) {
  launch(to_bf16, {blocks_of(elements, kThreads), kThreads, stream}, from, elements,
         static_cast<__nv_bfloat16*>(to));
}

}  // namespace

// The sizes that NVIDIA recommends.
std::size_t workspace_bytes(int generation) {
  return std::size_t{generation >= 9 ? 32u : 4u} << 20;
}

void WeightCopies::renew(const float* weights, std::int64_t elements, std::uint64_t version,
                         cudaStream_t stream) {
  if (precision_ != Precision::bf16) return;
  Copy& copy = copies_[weights];
  if (copy.version == version && copy.elements == elements) return;
  if (copy.elements != elements) {
    copy.values = allocate_device(static_cast<std::size_t>(elements) * sizeof(__nv_bfloat16),
                                  "the bf16 copy of weights");
    copy.elements = elements;
  }
  copy.version = version;
  convert(weights, elements, copy.values.get(), stream);
}

const void* WeightCopies::find(const float* weights) const {
  auto after = copies_.upper_bound(weights);
  if (after == copies_.begin()) return nullptr;
  const auto& [begin, copy] = *--after;
  if (weights >= begin + copy.elements) return nullptr;
  return reinterpret_cast<const __nv_bfloat16*>(copy.values.get()) + (weights - begin);
}

Products::Products(Precision precision, int generation, cudaStream_t stream,
                   const WeightCopies& copies)
    : precision_(precision),
      stream_(stream),
      copies_(copies),
      cublas_(make_cublas(stream)),
      workspace_(allocate_device(workspace_bytes(generation), "the workspace of cuBLAS")) {
  check(cublasSetWorkspace(cublas_.get(), workspace_.get(), workspace_bytes(generation)));
}

// cuBLAS is column-major and sees a row-major matrix as its transpose. So it computes cᵀ = bᵀ·aᵀ,
// with the operands in reverse order.
void Products::multiply(const MatrixView& a, const MatrixView& b, float* c, Into into) {
  require(a.columns == b.rows, "the inner extents of a product agree");
  if (a.rows == 0 || b.columns == 0) return;
  if (a.columns == 0) {  // no lanes: an empty sum
    if (into == Into::add) return;
    const auto bytes = static_cast<std::size_t>(a.rows * b.columns) * sizeof(float);
    return check(cudaMemsetAsync(c, 0, bytes, stream_));
  }
  const float one = 1.0f;
  const float keep = into == Into::add ? 1.0f : 0.0f;
  const cudaDataType type = precision_ == Precision::bf16 ? CUDA_R_16BF : CUDA_R_32F;
  check(cublasGemmEx(cublas_.get(), operation_of(b), operation_of(a), static_cast<int>(b.columns),
                     static_cast<int>(a.rows), static_cast<int>(a.columns), &one,
                     operand(b, right_), type, stride_of(b), operand(a, left_), type, stride_of(a),
                     &keep, c, CUDA_R_32F, static_cast<int>(b.columns), arithmetic(precision_),
                     CUBLAS_GEMM_DEFAULT));
}

const void* Products::operand(const MatrixView& matrix, Scratch& scratch) {
  if (precision_ != Precision::bf16) return matrix.data;
  if (matrix.converted != nullptr) return matrix.converted;
  if (const void* kept = copies_.find(matrix.data); kept != nullptr) return kept;
  const std::int64_t elements = matrix.rows * matrix.columns;
  auto* const values = scratch.get<__nv_bfloat16>(static_cast<std::size_t>(elements));
  convert(matrix.data, elements, values, stream_);
  return values;
}

MatrixView Products::converted(const MatrixView& matrix, Scratch& copy) {
  MatrixView result = matrix;
  if (precision_ == Precision::bf16) result.converted = operand(matrix, copy);
  return result;
}

std::string Products::description() const {
  int version = 0;
  check(cublasGetVersion(cublas_.get(), &version));
  return std::string(name_of(precision_)) + ", cuBLAS " + std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

}  // namespace ptb::cuda
