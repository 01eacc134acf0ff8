// The parameter table, and the first values of its parameters.
#include "ptb_dist/model/parameters.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ptb_dist/base/random.hpp"
#include "support/device_values.hpp"
#include "support/reference_backend.hpp"

namespace ptb {
namespace {

const ModelShape kTiny = {.vocab_size = 7, .hidden_size = 3, .num_layers = 2, .cell = {}};

std::int64_t parameters_of(std::int64_t hidden_size) {
  return ParameterTable({10'000, hidden_size, 2, {}}).elements();
}

std::vector<double> initial_values(Backend& backend, const ModelShape& shape, double scale,
                                   std::uint64_t seed) {
  Parameters parameters(backend, shape);
  parameters.initialise(backend, scale, seed);
  return values_of(backend, parameters.slab());
}

BOOST_AUTO_TEST_SUITE(parameters)

// No other test would find a name in the configuration without a cell, or a cell without a name.
BOOST_AUTO_TEST_CASE(a_configuration_can_choose_every_cell) {
  std::vector<std::string> names;
  for (const CellKind kind : kCellKinds) {
    names.emplace_back(traits_of(kind).name);
    BOOST_TEST((cell_kind(names.back()) == kind));
  }
  const auto key = std::ranges::find(config_schema(), "cell", &Key::name);
  BOOST_TEST_REQUIRE((key != config_schema().end()));
  BOOST_TEST(key->choices == names, boost::test_tools::per_element());
  BOOST_CHECK_THROW(cell_kind("peephole"), Error);
}

BOOST_AUTO_TEST_CASE(table_has_names_shapes_and_offsets_in_order) {
  struct Row {
    const char* name;
    Shape shape;
    std::int64_t offset;
    bool starts_at_zero;
  };
  const std::vector<Row> expected = {{"/parameters/embedding", {7, 3}, 0, false},
                                     {"/parameters/lstm/0/kernel", {6, 12}, 21, false},
                                     {"/parameters/lstm/0/bias", {12}, 93, true},
                                     {"/parameters/lstm/1/kernel", {6, 12}, 105, false},
                                     {"/parameters/lstm/1/bias", {12}, 177, true},
                                     {"/parameters/softmax/weight", {3, 7}, 189, false},
                                     {"/parameters/softmax/bias", {7}, 210, false}};
  const ParameterTable table(kTiny);
  BOOST_TEST_REQUIRE(table.entries().size() == expected.size());
  for (std::size_t k = 0; k < expected.size(); ++k) {
    const ParameterInfo& info = table.entries()[k];
    BOOST_TEST(info.name == expected[k].name);
    BOOST_TEST((info.shape == expected[k].shape), info.shape.text());
    BOOST_TEST(info.offset == expected[k].offset);
    BOOST_TEST(info.starts_at_zero == expected[k].starts_at_zero);
  }
  BOOST_TEST(table.elements() == 217);
  BOOST_TEST(table.dense_elements() == 196);
}

// 2·V·H + V + L·(8·H² + 4·H): small, medium and large of the paper.
BOOST_AUTO_TEST_CASE(sizes_of_the_known_models) {
  BOOST_TEST(parameters_of(200) == 4'651'600);
  BOOST_TEST(parameters_of(650) == 19'775'200);
  BOOST_TEST(parameters_of(1500) == 66'022'000);
}

BOOST_AUTO_TEST_CASE(weights_and_tensors_are_views_into_the_slab) {
  const auto backend = make_reference_backend();
  const Parameters parameters(*backend, kTiny);
  const auto offset = [&](const Tensor& view) {
    return static_cast<const double*>(view.raw()) -
           static_cast<const double*>(parameters.slab().raw());
  };
  const Weights& weights = parameters.weights();
  BOOST_TEST(offset(weights.embedding) == 0);
  BOOST_TEST(offset(weights.layers[0].kernel) == 21);
  BOOST_TEST(offset(weights.layers[1].bias) == 177);
  BOOST_TEST(offset(weights.softmax_weight) == 189);
  BOOST_TEST(offset(weights.softmax_bias) == 210);
  BOOST_TEST(offset(parameters.dense()) == 21);
  BOOST_TEST(parameters.dense().elements() == 196);
  BOOST_TEST((weights.layers[1].kernel.shape() == Shape({6, 12})));
  BOOST_TEST((parameters.tensor(5).shape() == Shape({3, 7})));
}

BOOST_AUTO_TEST_CASE(gradients_lie_as_the_parameters_do) {
  const auto backend = make_reference_backend();
  const Gradients gradients(*backend, kTiny, 4);
  const auto offset = [&](const Tensor& view) {
    return static_cast<const double*>(view.raw()) -
           static_cast<const double*>(gradients.dense().raw());
  };
  BOOST_TEST((gradients.rows().shape() == Shape({4, 3})));
  BOOST_TEST(gradients.dense().elements() == 196);
  BOOST_TEST(offset(gradients.tensor(1)) == 0);
  BOOST_TEST(offset(gradients.tensor(6)) == 210 - 21);
  BOOST_TEST((gradients.tensor(3).shape() == Shape({6, 12})));
  BOOST_TEST(offset(gradients.part({.first = 3, .last = 4})) == 105 - 21);
  BOOST_TEST(gradients.part({.first = 3, .last = 4}).elements() == 72 + 12);
  BOOST_TEST(gradients.part({.first = 5, .last = 6}).elements() == 21 + 7);
}

BOOST_AUTO_TEST_CASE(touch_and_initialise_make_a_version_that_never_was) {
  const auto backend = make_reference_backend();
  Parameters a(*backend, kTiny), b(*backend, kTiny);
  BOOST_TEST(a.weights().version != b.weights().version);
  const std::uint64_t before = a.weights().version;
  a.touch();
  const std::uint64_t touched = a.weights().version;
  a.initialise(*backend, 0.1, 1);
  BOOST_TEST(touched > before);
  BOOST_TEST(a.weights().version > touched);
}

BOOST_AUTO_TEST_CASE(initial_values_are_uniform_and_lstm_biases_zero) {
  const auto backend = make_reference_backend();
  const ModelShape shape = {.vocab_size = 500, .hidden_size = 40, .num_layers = 2, .cell = {}};
  const double scale = 0.05;
  const std::vector<double> values = initial_values(*backend, shape, scale, 3);
  const ParameterTable table(shape);
  for (const ParameterInfo& info : table.entries()) {
    double sum = 0, squares = 0, largest = 0;
    for (std::int64_t k = info.offset; k < info.offset + info.shape.elements(); ++k) {
      const double value = values[static_cast<std::size_t>(k)];
      sum += value;
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    const auto n = static_cast<double>(info.shape.elements());
    BOOST_TEST_CONTEXT(info.name) {
      if (info.starts_at_zero) {
        BOOST_TEST(largest == 0);
        continue;
      }
      BOOST_TEST(largest <= static_cast<float>(scale));
      BOOST_TEST(largest > 0.98 * scale);
      // Mean 0 and variance scale²/3, within five standard errors.
      BOOST_TEST(std::abs(sum / n) < 5 * scale / std::sqrt(3 * n));
      BOOST_TEST(std::abs(3 * squares / n / (scale * scale) - 1) < 5 * std::sqrt(0.8 / n));
    }
  }
}

// A later version must start from the same values. These came from another Philox4x32-10 (in
// Python).
BOOST_AUTO_TEST_CASE(first_values_are_pinned) {
  const auto backend = make_reference_backend();
  const std::vector<double> values = initial_values(*backend, kTiny, 0.1, 1);
  struct Pin {
    std::size_t at;
    float value;
  };
  for (const Pin& pin :
       {Pin{0, 0.0780518353f}, Pin{1, 0.0789369419f}, Pin{20, -0.0679443553f},
        Pin{21, -0.0945095494f}, Pin{105, 0.00772608817f}, Pin{216, 0.0808903873f}}) {
    BOOST_TEST_CONTEXT("element " << pin.at) { BOOST_TEST(values[pin.at] == pin.value); }
  }
  const RandomBlock words =
      random_stream(1, Purpose::initialise, 3, 1);  // elements 4 .. 7 of entry 3
  BOOST_TEST(values[105 + 6] == static_cast<float>(0.1 * (2 * uniform_double(words[2]) - 1)));
}

BOOST_AUTO_TEST_CASE(initial_values_depend_on_the_seed_and_on_nothing_else) {
  const auto reference = make_reference_backend();
  const auto cpu = make_backend({.name = "cpu"});
  const std::vector<double> expected = initial_values(*reference, kTiny, 0.1, 1);
  BOOST_TEST((initial_values(*cpu, kTiny, 0.1, 1) == expected));
  BOOST_TEST((initial_values(*reference, kTiny, 0.1, 1) == expected));
  BOOST_TEST((initial_values(*reference, kTiny, 0.1, 2) != expected));
  // All 64 bits of it.
  BOOST_TEST((initial_values(*reference, kTiny, 0.1, 1 + (std::uint64_t{1} << 32)) != expected));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
