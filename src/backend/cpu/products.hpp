// Matrix products on the CPU: f32 results, f32 sums, operands of f32 or of bf16.
//
// Two kinds, as measured (tests/bench/RESULTS.md): operands that are used once go to plain calls;
// weights that are used often get a copy in the library's own layout, renewed once per weight
// version. In fp32 that pays for the recurrence alone, whose weights are used 2·T times a window
// with few rows. In bf16 all weights have a converted copy, and in tiles (tile_products.hpp) all
// are packed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/cpu/bf16.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb {

enum class Precision { fp32, bf16 };

// A row-major f32 matrix, or its transpose seen as one: element (r,c) is data[r·columns + c], with
// `transposed` data[c·rows + r]. `converted` are the same elements in bf16, or null: then products
// that need them make them. Their rows are padded(width()) apart, with zeros at the end.
struct MatrixView {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool transposed = false;
  const Bf16* converted = nullptr;

  // As it is stored.
  std::int64_t height() const { return transposed ? columns : rows; }
  std::int64_t width() const { return transposed ? rows : columns; }
  std::int64_t padded_elements() const { return height() * padded(width()); }
  MatrixView transpose() const { return {data, columns, rows, !transposed, converted}; }
};

// Weights of a version: a copy of them is stale when `version` has changed. `view.data` must always
// be a matrix of the same shape.
struct WeightView {
  MatrixView view;
  std::uint64_t version = 0;

  WeightView transpose() const { return {view.transpose(), version}; }
};

enum class Into { overwrite, add };

// The stored rows of a matrix in bf16, as MatrixView::converted has them.
void convert_rows(int threads, const MatrixView& matrix, Bf16* to);

class Products {
 public:
  virtual ~Products() = default;

  virtual Precision precision() const = 0;

  // c = a·b of two activations; c is row-major [a.rows, b.columns]. Any extent may be 0.
  virtual void multiply(const MatrixView& a, const MatrixView& b, float* c) = 0;
  // c = a·w, once per weight version or twice.
  virtual void multiply_weights(const MatrixView& a, const WeightView& w, float* c) = 0;
  // c = a·w or c += a·w for a row-major `a` of few rows, many times per weight version.
  virtual void multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) = 0;

  // Bytes of the copies of weights and operands, about.
  virtual std::int64_t own_bytes(const Extents& extents) const = 0;
  // What decides about bits: "bf16 by amx_bf16", and who multiplies.
  virtual std::string arithmetic() const = 0;
  virtual std::string library() const = 0;
};

// With what bf16 is multiplied on this processor: "amx_bf16", "avx512_bf16", or "" where it has
// nothing that is worth it. What DNNL_MAX_CPU_ISA hides is not there.
const char* bf16_instructions();

// By oneDNN; in bf16 where the processor has AMX in tiles. `threads` of the calling process take
// part in each product. Error 69 if OpenMP gives fewer, and if the processor has no instructions
// for products of bf16.
std::unique_ptr<Products> make_products(Precision precision, int threads);

// "oneDNN 2.6.3, avx512_core_bf16"
std::string products_library();

}  // namespace ptb
