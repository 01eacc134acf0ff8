#include "ptb_dist/model/parameters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "ptb_dist/base/random.hpp"

namespace ptb {
namespace {

// Versions are unique in the process, so that copies of one replica's weights are never used for
// another replica.
std::uint64_t next_version() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

CellKind cell_kind(std::string_view name) {
  for (const CellKind kind : kCellKinds) {
    if (name == traits_of(kind).name) return kind;
  }
  throw Error(ExitCode::internal,
              Complaint{.what = "a cell of no known kind", .where = escaped(name)});
}

ModelShape shape_of(const Config& config) {
  return {.vocab_size = config.vocab_size,
          .hidden_size = config.hidden_size,
          .num_layers = static_cast<int>(config.num_layers),
          .cell = {.kind = cell_kind(config.cell), .forget_bias = config.forget_bias}};
}

ParameterTable::ParameterTable(const ModelShape& shape) {
  const std::int64_t V = shape.vocab_size;
  const std::int64_t H = shape.hidden_size;
  const CellTraits cell = traits_of(shape.cell.kind);
  const std::int64_t G = cell.gates;
  embedding_ = add("/parameters/embedding", {V, H});
  for (int l = 0; l < shape.num_layers; ++l) {
    const auto name = [&](const char* what) {
      return fmt::format("/parameters/{}/{}/{}", cell.name, l, what);
    };
    Layer& layer = layers_.emplace_back();
    layer.kernel = add(name("kernel"), {2 * H, G * H});
    layer.bias = add(name("bias"), {G * H}, true);
    if (cell.has_recurrent_share) layer.recurrent_bias = add(name("recurrent_bias"), {G * H}, true);
  }
  softmax_.weight = add("/parameters/softmax/weight", {H, V});
  softmax_.bias = add("/parameters/softmax/bias", {V});
}

std::size_t ParameterTable::add(std::string name, Shape shape, bool starts_at_zero) {
  entries_.push_back({std::move(name), shape, elements_, starts_at_zero});
  elements_ += shape.elements();
  return entries_.size() - 1;
}

Parameters::Parameters(Backend& backend, const ModelShape& shape)
    : shape_(shape),
      table_(shape),
      slab_(backend.allocate(backend.real_type(), {table_.elements()})) {
  weights_.embedding = tensor(table_.embedding());
  for (const ParameterTable::Layer& layer : table_.layers()) {
    weights_.layers.push_back(
        {.kernel = tensor(layer.kernel),
         .bias = tensor(layer.bias),
         .recurrent_bias = layer.recurrent_bias ? tensor(*layer.recurrent_bias) : Tensor()});
  }
  weights_.softmax_weight = tensor(table_.softmax().weight);
  weights_.softmax_bias = tensor(table_.softmax().bias);
  touch();
}

Tensor Parameters::tensor(std::size_t entry) const {
  const ParameterInfo& info = table_.entries().at(entry);
  return slab_.view(info.offset, info.shape);
}

Tensor Parameters::dense() const {
  return slab_.view(table_.dense_begin(), {table_.dense_elements()});
}

void Parameters::touch() { weights_.version = next_version(); }

void Parameters::initialise(Backend& backend, double scale, std::uint64_t seed) {
  std::vector<float> values;
  for (std::size_t entry = 0; entry < table_.entries().size(); ++entry) {
    const ParameterInfo& info = table_.entries()[entry];
    const std::int64_t count = info.shape.elements();
    values.assign(static_cast<std::size_t>(count), 0.0f);
    for (std::int64_t quad = 0; !info.starts_at_zero && 4 * quad < count; ++quad) {
      const RandomBlock words =
          random_stream(seed, Purpose::initialise, static_cast<std::uint32_t>(entry),
                        static_cast<std::uint64_t>(quad));
      const std::int64_t end = std::min<std::int64_t>(count - 4 * quad, 4);
      for (std::int64_t k = 0; k < end; ++k) {
        const double u = uniform_double(words[static_cast<std::size_t>(k)]);
        values[static_cast<std::size_t>(4 * quad + k)] = static_cast<float>(scale * (2 * u - 1));
      }
    }
    upload_reals(backend, tensor(entry), values);
  }
  touch();
}

Gradients::Gradients(Backend& backend, const ModelShape& shape, std::int64_t max_rows)
    : table_(shape),
      rows_(backend.allocate(backend.real_type(), {max_rows, shape.hidden_size})),
      dense_(backend.allocate(backend.real_type(), {table_.dense_elements()})) {}

std::int64_t Gradients::bytes(const ModelShape& shape, std::int64_t max_rows,
                              std::int64_t real_bytes) {
  return (max_rows * shape.hidden_size + ParameterTable(shape).dense_elements()) * real_bytes;
}

Tensor Gradients::tensor(std::size_t entry) const {
  return part({.first = entry, .last = entry}).view(table_.entries().at(entry).shape);
}

Tensor Gradients::part(const GradientPart& part) const {
  if (part.first == table_.embedding()) return rows_.slice(0, part.rows);
  const std::int64_t begin = table_.entries().at(part.first).offset;
  const ParameterInfo& end = table_.entries().at(part.last);
  return dense_.view(begin - table_.dense_begin(), {end.offset + end.shape.elements() - begin});
}

}  // namespace ptb
