// One table of parameters drives initialise, all-reduce, clip, step, checkpoint and export.
//
// Values are one contiguous slab in this order: embedding, recurrent layers from the bottom
// (kernel, bias, and recurrent bias if the cell has one), softmax weight, softmax bias. What the
// backward pass finishes first lies at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/config.hpp"

namespace ptb {

struct ModelShape {
  std::int64_t vocab_size = 0;   // V
  std::int64_t hidden_size = 0;  // H
  int num_layers = 0;            // L
  Cell cell;
};

// The cell of this name in a configuration. Error 70 if there is none, because the table of keys
// allows no other name.
CellKind cell_kind(std::string_view name);
ModelShape shape_of(const Config& config);

struct ParameterInfo {
  std::string name;  // path in an HDF5 file: "/parameters/lstm/0/kernel"
  Shape shape;
  std::int64_t offset = 0;      // in the slab, in elements
  bool starts_at_zero = false;  // else uniform in [-init_scale, init_scale]
};

class ParameterTable {
 public:
  explicit ParameterTable(const ModelShape& shape);

  const std::vector<ParameterInfo>& entries() const { return entries_; }
  std::int64_t elements() const { return elements_; }
  // Places in the table by role. All but the embedding is the dense part.
  struct Layer {
    std::size_t kernel = 0;
    std::size_t bias = 0;
    std::optional<std::size_t> recurrent_bias{};  // of cells with a recurrent share

    std::size_t last() const { return recurrent_bias.value_or(bias); }
  };
  struct Softmax {
    std::size_t weight = 0;
    std::size_t bias = 0;
  };
  std::size_t embedding() const { return embedding_; }
  const std::vector<Layer>& layers() const { return layers_; }  // L, from the bottom
  const Softmax& softmax() const { return softmax_; }
  // Where the dense part begins in the slab, behind the embedding, which is the first entry; and
  // how long it is. In elements.
  std::int64_t dense_begin() const { return entries_[embedding_].shape.elements(); }
  std::int64_t dense_elements() const { return elements_ - dense_begin(); }

 private:
  std::size_t add(std::string name, Shape shape, bool starts_at_zero = false);

  std::vector<ParameterInfo> entries_;
  std::int64_t elements_ = 0;
  std::size_t embedding_ = 0;
  std::vector<Layer> layers_;
  Softmax softmax_;
};

// The values of one replica.
class Parameters {
 public:
  Parameters(Backend& backend, const ModelShape& shape);

  const ModelShape& shape() const { return shape_; }
  const ParameterTable& table() const { return table_; }
  const Tensor& slab() const { return slab_; }
  // Parameter by its place in the table.
  Tensor tensor(std::size_t entry) const;
  // Everything behind the embedding, as one vector.
  Tensor dense() const;
  // By role, with the current version.
  const Weights& weights() const { return weights_; }
  // Called after each change of the values: raises the version, so copies are out of date.
  void touch();

  // Uniform in [-scale, scale] (biases of the recurrent layers 0), a pure function of the seed;
  // touches. A tensor's random numbers are those of its row in the table: a new row changes the
  // initial values of all rows after it.
  void initialise(Backend& backend, double scale, std::uint64_t seed);

 private:
  ModelShape shape_;
  ParameterTable table_;
  Tensor slab_;
  Weights weights_;
};

// What a segment of the backward pass completes: neighbouring entries of the table, or, if first
// and last are the embedding, the first `rows` rows of its gradient.
struct GradientPart {
  std::size_t first = 0;
  std::size_t last = 0;
  std::int64_t rows = 0;
};

// Gradients of one replica for one window: for the embedding a row for each word of the global
// window, for the rest one slab in the order of the parameters.
class Gradients {
 public:
  // `max_rows`: capacity for distinct words of a window.
  Gradients(Backend& backend, const ModelShape& shape, std::int64_t max_rows);
  // Device memory, if a real has `real_bytes`.
  static std::int64_t bytes(const ModelShape& shape, std::int64_t max_rows,
                            std::int64_t real_bytes);

  const Tensor& rows() const { return rows_; }  // [max_rows,H]; only the first U are valid
  const Tensor& dense() const { return dense_; }
  // Gradient of a dense parameter by its place in the table.
  Tensor tensor(std::size_t entry) const;
  // As one vector, or for the embedding [rows,H].
  Tensor part(const GradientPart& part) const;

 private:
  ParameterTable table_;
  Tensor rows_;
  Tensor dense_;
};

}  // namespace ptb
