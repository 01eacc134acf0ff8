// The subset of cuBLAS that the backend calls: one product, in fp32 with inputs of fp32, TF32 (the
// inputs rounded to 10 bits of mantissa) or bfloat16, accumulated in fp32 in ascending order of k.
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_on_cpu/memory.hpp"
#include "cuda_on_cpu/race.hpp"
#include "cuda_on_cpu/runtime.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/streams.hpp"

using namespace ptb::cuda_on_cpu;

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
};

namespace {

// A column-major matrix, as cuBLAS has them: element (i,j) is data[j·stride + i], with `transposed`
// data[i·stride + j].
struct Matrix {
  const void* data;
  cudaDataType type;
  bool transposed;
  int rows, columns, stride;

  std::size_t width() const { return type == CUDA_R_32F ? sizeof(float) : sizeof(std::uint16_t); }
  float at(int i, int j) const {
    const std::size_t index = transposed
                                  ? static_cast<std::size_t>(i) * static_cast<std::size_t>(stride) +
                                        static_cast<std::size_t>(j)
                                  : static_cast<std::size_t>(j) * static_cast<std::size_t>(stride) +
                                        static_cast<std::size_t>(i);
    if (type == CUDA_R_32F) return static_cast<const float*>(data)[index];
    return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
  }
  bool is_possible() const {
    return stride >= std::max(1, transposed ? columns : rows) &&
           (type == CUDA_R_32F || type == CUDA_R_16BF);
  }
  // Columns as they are stored.
  void note_read() const {
    const int stored_columns = transposed ? rows : columns;
    const auto bytes = static_cast<std::size_t>(transposed ? columns : rows) * width();
    for (int j = 0; j < stored_columns; ++j) {
      const auto offset = static_cast<std::size_t>(j) * static_cast<std::size_t>(stride) * width();
      note_access(static_cast<const char*>(data) + offset, bytes, false);
    }
  }
};

// Round to nearest, ties away from zero, to TF32's 10 bits; or cut off what is behind them.
float rounded_to_tf32(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return x;  // infinity or NaN
  return std::bit_cast<float>((bits + (settings().truncates_tf32 ? 0u : 0x1000u)) & ~0x1fffu);
}

// [columns,rows] with rows contiguous: what the inner loop runs along.
std::vector<float> unpacked(const Matrix& matrix, bool is_tf32) {
  std::vector<float> values(static_cast<std::size_t>(matrix.rows) *
                            static_cast<std::size_t>(matrix.columns));
  auto out = values.begin();
  for (int j = 0; j < matrix.columns; ++j) {
    for (int i = 0; i < matrix.rows; ++i) {
      const float x = matrix.at(i, j);
      *out++ = is_tf32 ? rounded_to_tf32(x) : x;
    }
  }
  return values;
}

struct Product {
  void* workspace;
  Matrix a, b;
  bool is_tf32;
  bool accumulates;  // beta: 0 or 1
  float* c;          // column-major, stride c_stride
  int c_stride;
};

// By the extents that the backend knows, row-major.
void count(const Product& p) {
  const std::int64_t m = p.b.columns, k = p.a.columns, n = p.a.rows;
  const std::int64_t flops = 2 * m * k * n;
  ++counters().products;
  counters().product_flops += flops;
  ProductCount& of_extents =
      counters().by_product[std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n)];
  ++of_extents.runs;
  of_extents.flops += flops;
  of_extents.bytes += static_cast<std::int64_t>(p.a.width()) * k * (m + n) +
                      static_cast<std::int64_t>(sizeof(float)) * m * n * (p.accumulates ? 2 : 1);
}

constexpr std::size_t kWorkspaceBytes = 32;  // of it stand for all

void run(const Product& p) {
  count(p);
  // Two products at once must not share it, whether or not they need it.
  if (p.workspace != nullptr) note_access(p.workspace, kWorkspaceBytes, true);
  p.a.note_read();
  p.b.note_read();
  const auto rows = static_cast<std::size_t>(p.a.rows);
  const auto inner = static_cast<std::size_t>(p.a.columns);
  const std::vector<float> a = unpacked(p.a, p.is_tf32), b = unpacked(p.b, p.is_tf32);
  std::vector<float> sums(rows);
  for (std::size_t j = 0; j < static_cast<std::size_t>(p.b.columns); ++j) {
    std::ranges::fill(sums, 0.0f);
    for (std::size_t k = 0; k < inner; ++k) {
      const float factor = b[j * inner + k];
      const float* column = a.data() + k * rows;
      for (std::size_t i = 0; i < rows; ++i) sums[i] += factor * column[i];
    }
    float* out = p.c + j * static_cast<std::size_t>(p.c_stride);
    if (p.accumulates) note_access(out, rows * sizeof(float), false);
    note_access(out, rows * sizeof(float), true);
    for (std::size_t i = 0; i < rows; ++i) out[i] = p.accumulates ? out[i] + sums[i] : sums[i];
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (is_to_fail("cublas")) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  handle->workspace = nullptr;  // as the real one does
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (bytes < kWorkspaceBytes || !is_allocated(workspace, bytes)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  handle->workspace = workspace;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t) { return "a status of the emulation"; }

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a_operation,
                            cublasOperation_t b_operation, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType a_type, int a_stride, const void* b,
                            cudaDataType b_type, int b_stride, const void* beta, void* c,
                            cudaDataType c_type, int c_stride, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  if (device_status() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  const float factor = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  if (factor != 1.0f || (keep != 0.0f && keep != 1.0f)) fail("only alpha 1 and beta 0 or 1");
  if (handle->workspace == nullptr && handle->stream != nullptr &&
      handle->stream->capture != nullptr) {
    fail("a captured product without a workspace of its own, for which cuBLAS would allocate");
  }
  const Product product{.workspace = handle->workspace,
                        .a = {a, a_type, a_operation != CUBLAS_OP_N, m, k, a_stride},
                        .b = {b, b_type, b_operation != CUBLAS_OP_N, k, n, b_stride},
                        .is_tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a_type == CUDA_R_32F,
                        .accumulates = keep == 1.0f,
                        .c = static_cast<float*>(c),
                        .c_stride = c_stride};
  if (m <= 0 || n <= 0 || k <= 0 || !product.a.is_possible() || !product.b.is_possible() ||
      c_stride < m || c_type != CUDA_R_32F || a_type != b_type) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto step = [product] {
    run(product);
    return Progress::finished;
  };
  enqueue(handle->stream, {.step = step, .what = "product"});
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
