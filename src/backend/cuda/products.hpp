// Matrix products on the device, by cuBLAS. All are enqueued on one stream.
//
// fp32 asks for cuBLAS' pedantic arithmetic, so that no setting of the environment turns it into
// TF32; tf32 rounds the inputs to 10 bits of mantissa in the tensor cores; bf16 multiplies bfloat16
// copies of the inputs. All accumulate in fp32 and keep their results in it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "backend/cuda/handles.hpp"
#include "backend/cuda/scratch.hpp"

namespace ptb::cuda {

enum class Precision { fp32, tf32, bf16 };

// A row-major f32 matrix, or its transpose seen as one: element (r,c) is data[r·columns + c], with
// `transposed` data[c·rows + r].
struct MatrixView {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool transposed = false;

  MatrixView transpose() const { return {data, columns, rows, !transposed}; }
};

class Products {
 public:
  // `generation` of the device (device.hpp): how much memory cuBLAS wants to itself.
  Products(Precision precision, int generation, cudaStream_t stream);

  // c = a·b, or c += a·b; c is row-major [a.rows, b.columns] f32. Any extent may be 0.
  enum class Into { overwrite, add };
  void multiply(const MatrixView& a, const MatrixView& b, float* c, Into into = Into::overwrite);

  // bf16: renews the copy of `elements` values at `weights` that products then read in their place.
  // Nothing in other precisions, or for a version that is there already.
  void keep_copy(const float* weights, std::int64_t elements, std::uint64_t version);

  // "tf32, cuBLAS 13.1.0"
  std::string description() const;

 private:
  struct Copy {
    std::shared_ptr<std::byte> values;  // [elements] bf16
    std::int64_t elements = 0;
    std::uint64_t version = 0;
  };

  // The values of a matrix in the precision that products multiply, and its copy if it has to be
  // made for this product alone.
  const void* operand(const MatrixView& matrix, Scratch& scratch);
  void convert(const float* from, std::int64_t elements, void* to);

  Precision precision_;
  cudaStream_t stream_;
  CublasHandle cublas_;
  std::shared_ptr<std::byte> workspace_;  // cuBLAS' own, so that it allocates nothing in a graph
  Scratch left_, right_;                  // bf16 copies of the operands of one product
  std::map<const float*, Copy> copies_;   // of weights, by their address
};

}  // namespace ptb::cuda
