#include "support/portable_products.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/tile_products.hpp"
#include "support/plain_tiles.hpp"

namespace ptb::test {
namespace {

// Row by row as stored, with the zeros at their ends.
void check_copy(const MatrixView& matrix) {
  if (matrix.converted == nullptr) return;
  const std::int64_t width = matrix.width(), stride = padded(width);
  for (std::int64_t row = 0; row < matrix.height(); ++row) {
    const Bf16* const copy = matrix.converted + row * stride;
    const float* const values = matrix.data + row * width;
    require(std::equal(values, values + width, copy,
                       [](float value, Bf16 rounded) { return to_bf16(value) == rounded; }),
            "an operand's copy has the rounded values of the operand");
    require(std::all_of(copy + width, copy + stride, [](Bf16 value) { return value == 0; }),
            "zeros are behind a row's end");
  }
}

// Those of another, with arguments that are looked at.
class CheckedProducts final : public Products {
 public:
  explicit CheckedProducts(std::unique_ptr<Products> real) : real_(std::move(real)) {}

  Precision precision() const override { return real_->precision(); }
  void multiply(const MatrixView& a, const MatrixView& b, float* c) override {
    check_copy(a);
    check_copy(b);
    real_->multiply(a, b, c);
  }
  void multiply_weights(const MatrixView& a, const WeightView& w, float* c) override {
    check_copy(a);
    check_version(w);
    real_->multiply_weights(a, w, c);
  }
  void multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) override {
    check_copy(a);
    check_version(w);
    real_->multiply_packed(a, w, into, c);
  }
  std::int64_t own_bytes(const Extents& extents) const override {
    return real_->own_bytes(extents);
  }
  std::string arithmetic() const override { return real_->arithmetic(); }
  std::string library() const override { return real_->library(); }

 private:
  struct Seen {
    std::vector<float> values{};
    std::optional<std::uint64_t> version{};
  };

  void check_version(const WeightView& w) {
    Seen& seen = seen_[w.view.data];
    const float* const end = w.view.data + w.view.rows * w.view.columns;
    if (seen.version != w.version) seen = {{w.view.data, end}, w.version};
    require(std::equal(w.view.data, end, seen.values.begin(), seen.values.end()),
            "who writes weights raises their version");
  }

  std::unique_ptr<Products> real_;
  std::map<const float*, Seen> seen_;
};

}  // namespace

std::unique_ptr<Backend> make_portable_backend(const BackendOptions& options) {
  if (options.precision != "bf16" || options.name == "cuda") return make_backend(options);
  std::unique_ptr<Products> tiles = make_tile_products(
      {.multiply = multiply_in_plain_tiles, .arithmetic = "bf16 by plain loops"}, options.threads);
  return std::make_unique<CpuBackend>(options.threads,
                                      std::make_unique<CheckedProducts>(std::move(tiles)));
}

}  // namespace ptb::test
