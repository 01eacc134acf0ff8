#include "support/portable_products.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "backend/cpu/cpu_backend.hpp"

namespace ptb::test {
namespace {

using Values = std::vector<Bf16>;

// All elements, in the order of memory.
Values rounded(const MatrixView& matrix) {
  Values values(static_cast<std::size_t>(matrix.elements()));
  std::transform(matrix.data, matrix.data + matrix.elements(), values.begin(), to_bf16);
  require(matrix.converted == nullptr || std::equal(values.begin(), values.end(), matrix.converted),
          "an operand's copy has the rounded values of the operand");
  return values;
}

// Row-major [rows, columns], as the product sees it.
std::vector<float> unfolded(const MatrixView& matrix, const Bf16* values) {
  std::vector<float> result(static_cast<std::size_t>(matrix.elements()));
  float* to = result.data();
  for (std::int64_t r = 0; r < matrix.rows; ++r) {
    for (std::int64_t c = 0; c < matrix.columns; ++c) {
      *to++ = from_bf16(values[matrix.transposed ? c * matrix.rows + r : r * matrix.columns + c]);
    }
  }
  return result;
}

// c += a·b of row-major matrices.
void add_product(const std::vector<float>& a, const std::vector<float>& b, std::int64_t rows,
                 std::int64_t inner, std::int64_t columns, float* c) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < inner; ++k) {
      const float factor = a[static_cast<std::size_t>(r * inner + k)];
      const float* from = b.data() + k * columns;
      for (std::int64_t n = 0; n < columns; ++n) c[r * columns + n] += factor * from[n];
    }
  }
}

class PortableProducts final : public Products {
 public:
  Precision precision() const override { return Precision::bf16; }

  void multiply(const MatrixView& a, const MatrixView& b, float* c) override {
    multiply(a, b, rounded(b).data(), Into::overwrite, c);
  }
  void multiply_weights(const MatrixView& a, const WeightView& w, float* c) override {
    multiply_packed(a, w, Into::overwrite, c);
  }
  void multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) override {
    Copy& copy = copies_[w.view.data];
    const Values now = rounded(w.view);
    if (copy.version != w.version) copy = {.values = now, .version = w.version};
    require(copy.values == now, "who writes weights raises their version");
    multiply(a, w.view, copy.values.data(), into, c);
  }

  std::int64_t own_bytes(const Extents&) const override { return 0; }
  std::string arithmetic() const override { return "bf16 by plain loops"; }
  std::string library() const override { return "no library"; }

 private:
  struct Copy {
    Values values{};
    std::optional<std::uint64_t> version{};
  };

  static void multiply(const MatrixView& a, const MatrixView& b, const Bf16* b_values, Into into,
                       float* c) {
    require(a.columns == b.rows, "the inner extents of a product agree");
    if (into == Into::overwrite) std::fill_n(c, a.rows * b.columns, 0.0f);
    add_product(unfolded(a, rounded(a).data()), unfolded(b, b_values), a.rows, a.columns, b.columns,
                c);
  }

  std::map<const float*, Copy> copies_;
};

}  // namespace

std::unique_ptr<Backend> make_portable_backend(const BackendOptions& options) {
  if (options.precision != "bf16" || options.name == "cuda") return make_backend(options);
  return std::make_unique<CpuBackend>(options.threads, std::make_unique<PortableProducts>());
}

}  // namespace ptb::test
