// Matrix products on the CPU, by oneDNN. The only files that include it are products.hpp's sources.
//
// Two kinds, as measured (tests/bench/RESULTS.md): products that use their operands once go to
// plain calls; the recurrence, which uses one weight matrix 2·T times a window with few rows, gets
// a copy in oneDNN's own layout, renewed once per weight version.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace ptb {

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
  // `threads` of the calling process take part in each product. Error 69 if OpenMP gives fewer.
  explicit Products(int threads);
  ~Products();

  // c = a·b; c is row-major [a.rows, b.columns]. Any extent may be 0.
  void multiply(const MatrixView& a, const MatrixView& b, float* c);

  // c = a·w or c += a·w for a row-major `a` of few rows, many times per weight version.
  // The packed copy belongs to (w.data, w.transposed, a.rows, accumulate) and is renewed where
  // `version` differs from the last call's; w.data must always be a matrix of the same shape.
  void multiply_packed(const MatrixView& a, const MatrixView& w, std::uint64_t version,
                       bool accumulate, float* c);

  // "oneDNN 2.6.3, avx512_core_bf16"
  static std::string description();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ptb
