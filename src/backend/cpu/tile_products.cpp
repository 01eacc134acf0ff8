#include "backend/cpu/tile_products.hpp"

#include <omp.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"
#include "backend/cpu/team.hpp"

namespace ptb {
namespace {

using tiles::depths_of;
using tiles::kColumns;
using tiles::kDepth;
using tiles::kElements;
using tiles::kRows;
using tiles::panels_of;

// Of K that a pass over the rows of `a` takes: 700 rows of them are 1 MB, half of the second cache
// of the processors that have AMX.
constexpr std::int64_t kMostDepths = 24;
// Panels that are packed together where they are used once: whole cache lines of the rows that they
// are taken from, and 200 KB at most.
constexpr std::int64_t kPanelsAtOnce = 8;

struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t count() const { return end - begin; }
};

// Part `index` of `count` about equal ones.
Range part_of(std::int64_t n, std::int64_t index, std::int64_t count) {
  return {n * index / count, n * (index + 1) / count};
}

// Rows as tiles::Part takes them.
struct Left {
  const Bf16* values = nullptr;
  std::int64_t rows = 0, depths = 0;
  std::int64_t stride() const { return depths * kDepth; }
};

// c [rows, columns].
struct Result {
  float* data = nullptr;
  std::int64_t columns = 0;
  Into into = Into::overwrite;
};

// Rows, panels and depths of a product whose panels are packed, from the first of `depths` and of
// `panels` on.
void multiply_part(const TileEngine& engine, const Left& a, const Range& rows, const Bf16* packed,
                   std::int64_t packed_depths, const Range& panels, const Range& depths,
                   const Result& c) {
  const std::int64_t first = panels.begin * kColumns;
  engine.multiply({.a = a.values + rows.begin * a.stride() + depths.begin * kDepth,
                   .a_stride = a.stride(),
                   .b = packed,
                   .panel_elements = packed_depths * kElements,
                   .c = c.data + rows.begin * c.columns + first,
                   .c_stride = c.columns,
                   .rows = rows.count(),
                   .columns = std::min(panels.end * kColumns, c.columns) - first,
                   .depths = depths.count(),
                   .adds = c.into == Into::add || depths.begin > 0});
}

// What a thread does: all of c with weights that are packed whole ...
void multiply_packed_part(const TileEngine& engine, const Left& a, const Range& rows,
                          const Bf16* packed, const Range& panels, const Result& c) {
  const std::int64_t passes = (a.depths + kMostDepths - 1) / kMostDepths;
  for (std::int64_t pass = 0; pass < passes; ++pass) {
    const Range depths = part_of(a.depths, pass, passes);
    const Bf16* const from = packed + (panels.begin * a.depths + depths.begin) * kElements;
    multiply_part(engine, a, rows, from, a.depths, panels, depths, c);
  }
}

// ... or with a right operand that is packed as it goes. `b` has no transpose.
void multiply_plain_part(const TileEngine& engine, const Left& a, const MatrixView& b,
                         const Range& panels, const Result& c) {
  thread_local Bf16Buffer buffer;
  const std::int64_t stride = padded(b.columns);
  const std::int64_t passes = (a.depths + kMostDepths - 1) / kMostDepths;
  for (std::int64_t pass = 0; pass < passes; ++pass) {
    const Range depths = part_of(a.depths, pass, passes);
    Bf16* const packed = buffer.get(kPanelsAtOnce * depths.count() * kElements);
    for (std::int64_t first = panels.begin; first < panels.end; first += kPanelsAtOnce) {
      const Range now = {first, std::min(first + kPanelsAtOnce, panels.end)};
      for (std::int64_t k = depths.begin; k < depths.end; ++k) {
        loops::pack_tiles(b.converted + k * kDepth * stride + first * kColumns, stride,
                          b.rows - k * kDepth,
                          std::min(now.end * kColumns, b.columns) - first * kColumns,
                          packed + (k - depths.begin) * kElements, depths.count() * kElements);
      }
      multiply_part(engine, a, {0, a.rows}, packed, depths.count(), now, depths, c);
    }
  }
}

class TileProducts final : public Products {
 public:
  TileProducts(TileEngine engine, int threads) : engine_(std::move(engine)), threads_(threads) {
    omp_set_num_threads(threads);
    require_team(threads);
  }

  Precision precision() const override { return Precision::bf16; }
  void multiply(const MatrixView& a, const MatrixView& b, float* c) override;
  void multiply_weights(const MatrixView& a, const WeightView& w, float* c) override {
    multiply_packed(a, w, Into::overwrite, c);
  }
  void multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) override;
  std::int64_t own_bytes(const Extents& extents) const override;
  std::string arithmetic() const override { return engine_.arithmetic; }
  std::string library() const override { return "own tiles"; }

 private:
  struct Copy {
    Bf16Buffer panels{};
    std::optional<std::uint64_t> version{};
  };

  const Bf16* converted(const MatrixView& matrix, Bf16Buffer& scratch) const;
  Left left(const MatrixView& a);
  const Bf16* packed(const WeightView& w);

  TileEngine engine_;
  int threads_;
  std::map<std::pair<const float*, bool>, Copy> copies_;  // by address and direction
  Bf16Buffer left_, right_, transposed_;                  // operands of one product
};

const Bf16* TileProducts::converted(const MatrixView& matrix, Bf16Buffer& scratch) const {
  if (matrix.converted != nullptr) return matrix.converted;
  Bf16* const values = scratch.get(matrix.padded_elements());
  convert_rows(threads_, matrix, values);
  return values;
}

Left TileProducts::left(const MatrixView& a) {
  const Bf16* const values = converted(a, left_);
  const Left result = {.values = values, .rows = a.rows, .depths = depths_of(a.columns)};
  if (!a.transposed) return result;
  const std::int64_t stride = result.stride();
  Bf16* const to = transposed_.get(a.rows * stride);
  parallel_for(threads_, a.rows, kDepth, [&](std::int64_t begin, std::int64_t end) {
    loops::transpose(values + begin, padded(a.rows), a.columns, end - begin, to + begin * stride,
                     stride);
    for (std::int64_t row = begin; row < end; ++row) {
      std::fill(to + row * stride + a.columns, to + (row + 1) * stride, Bf16{0});
    }
  });
  return {.values = to, .rows = a.rows, .depths = result.depths};
}

const Bf16* TileProducts::packed(const WeightView& w) {
  const MatrixView& view = w.view;
  Copy& copy = copies_[{view.data, view.transposed}];
  const std::int64_t depths = depths_of(view.rows), panels = panels_of(view.columns);
  Bf16* const to = copy.panels.get(panels * depths * kElements);
  if (copy.version == w.version) return to;
  const std::int64_t stride = view.width();
  parallel_for(threads_, panels, 1, [&](std::int64_t begin, std::int64_t end) {
    if (view.transposed) {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        for (std::int64_t k = 0; k < depths; ++k) {
          const std::int64_t row = k * kDepth, column = panel * kColumns;
          loops::pack_transposed_tile(view.data + column * stride + row, stride, view.rows - row,
                                      view.columns - column, to + (panel * depths + k) * kElements);
        }
      }
      return;
    }
    const std::int64_t first = begin * kColumns;
    for (std::int64_t k = 0; k < depths; ++k) {
      loops::pack_tiles(view.data + k * kDepth * stride + first, stride, view.rows - k * kDepth,
                        std::min(end * kColumns, view.columns) - first,
                        to + (begin * depths + k) * kElements, depths * kElements);
    }
  });
  copy.version = w.version;
  return to;
}

void TileProducts::multiply(const MatrixView& a, const MatrixView& b, float* c) {
  require(a.columns == b.rows && !b.transposed,
          "the right operand is [a's columns, ...] as stored");
  if (a.columns == 0) std::fill_n(c, a.rows * b.columns, 0.0f);  // no lanes: an empty sum
  if (a.rows == 0 || b.columns == 0 || a.columns == 0) return;
  MatrixView right = b;
  right.converted = converted(b, right_);
  const Left rows = left(a);
  parallel_for(threads_, panels_of(b.columns), 1, [&](std::int64_t begin, std::int64_t end) {
    multiply_plain_part(engine_, rows, right, {begin, end}, {.data = c, .columns = b.columns});
  });
}

void TileProducts::multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) {
  require(a.columns == w.view.rows, "the inner extents of a product agree");
  if (a.rows == 0) return;
  const Bf16* const weights = packed(w);
  const Left rows = left(a);
  const Result result = {.data = c, .columns = w.view.columns, .into = into};
  const std::int64_t panels = panels_of(result.columns);
  // The threads share the smaller operand and part the larger.
  constexpr std::int64_t kBlock = 2 * kRows;
  if (a.rows > result.columns && a.rows >= kBlock * threads_) {
    parallel_for(threads_, a.rows, kBlock, [&](std::int64_t begin, std::int64_t end) {
      multiply_packed_part(engine_, rows, {begin, end}, weights, {0, panels}, result);
    });
    return;
  }
  parallel_for(threads_, panels, 1, [&](std::int64_t begin, std::int64_t end) {
    multiply_packed_part(engine_, rows, {0, a.rows}, weights, {begin, end}, result);
  });
}

// Both directions of all weights; a layer's input as it is and transposed.
std::int64_t TileProducts::own_bytes(const Extents& e) const {
  const std::int64_t H = padded(e.hidden), gates = padded(traits_of(e.cell).gates * e.hidden);
  const std::int64_t weights = 2 * e.layers * H * gates + H * padded(e.vocab);
  return (2 * weights + 2 * e.positions * H) * std::int64_t{sizeof(Bf16)};
}

}  // namespace

std::unique_ptr<Products> make_tile_products(TileEngine engine, int threads) {
  return std::make_unique<TileProducts>(std::move(engine), threads);
}

}  // namespace ptb
