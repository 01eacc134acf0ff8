// Matrix products on the device, by cuBLAS.
//
// fp32 uses cuBLAS' pedantic arithmetic, so that no environment variable can turn it into TF32.
// tf32 rounds the inputs to 10 bits of mantissa in the tensor cores. bf16 multiplies bfloat16
// copies of the inputs. All accumulate and store in fp32.
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
// `transposed` data[c·rows + r]. `converted` are the same elements as bf16, or null.
struct MatrixView {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool transposed = false;
  const void* converted = nullptr;

  MatrixView transpose() const { return {data, columns, rows, !transposed, converted}; }
};

// The size of cuBLAS' own workspace on a device of that generation (device.hpp).
std::size_t workspace_bytes(int generation);

// The bf16 copies of weights that products read instead. In other precisions there are none.
class WeightCopies {
 public:
  explicit WeightCopies(Precision precision) : precision_(precision) {}

  // Enqueues the copy of `elements` values at `weights`, unless there is one of this version.
  void renew(const float* weights, std::int64_t elements, std::uint64_t version,
             cudaStream_t stream);
  // The copy, [elements] bf16, of a matrix that is a part of copied weights; else null.
  const void* find(const float* weights) const;

 private:
  struct Copy {
    std::shared_ptr<std::byte> values;  // [elements] bf16
    std::int64_t elements = 0;
    std::uint64_t version = 0;
  };

  Precision precision_;
  std::map<const float*, Copy> copies_;  // by the address of the original
};

// All are enqueued on one stream.
class Products {
 public:
  // `generation` of the device (device.hpp). `copies` outlive this.
  Products(Precision precision, int generation, cudaStream_t stream, const WeightCopies& copies);

  // c = a·b, or c += a·b; c is row-major [a.rows, b.columns] f32. Any extent may be 0.
  enum class Into { overwrite, add };
  void multiply(const MatrixView& a, const MatrixView& b, float* c, Into into = Into::overwrite);

  // The matrix for several products, also on other streams that wait for this one: for bf16 it is
  // converted once, into `copy`.
  MatrixView converted(const MatrixView& matrix, Scratch& copy);

  // "tf32, cuBLAS 13.1.0"
  std::string description() const;

 private:
  // The values of a matrix in the precision of the products. A copy that only this product needs
  // goes into the scratch memory.
  const void* operand(const MatrixView& matrix, Scratch& scratch);

  Precision precision_;
  cudaStream_t stream_;
  const WeightCopies& copies_;
  CublasHandle cublas_;
  std::shared_ptr<std::byte> workspace_;  // cuBLAS' own, so that it allocates nothing in a graph
  Scratch left_, right_;                  // bf16 copies of the operands of one product
};

}  // namespace ptb::cuda
