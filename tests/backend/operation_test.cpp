// Every operation of every backend of this build against the reference in double, on the same
// random inputs; and the same operation twice gives the same bytes.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <optional>
#include <random>

#include "support/device_values.hpp"
#include "support/differences.hpp"
#include "support/fast_backends.hpp"
#include "support/reference_backend.hpp"

namespace ptb {
namespace {

struct Sizes {
  std::int64_t T, B, H, V;
  int L;
};

// Odd and uneven sizes, so that no loop over vectors, tiles or quads fits by chance; more layers
// than a GPU has queues; the last is the small model with fewer words. B = 0: a rank without lanes.
// PTB_DIST_TEST_SHORT: for a test of schedules six steps of the last size are enough, because they
// are two pieces of its products.
bool is_short() { return std::getenv("PTB_DIST_TEST_SHORT") != nullptr; }
std::vector<Sizes> sizes() {
  return {{1, 1, 1, 2, 1},    {3, 2, 5, 11, 2},  {7, 3, 16, 50, 1},
          {5, 1, 33, 101, 3}, {4, 0, 6, 13, 2},  {2, 9, 50, 257, 2},
          {35, 3, 67, 40, 2}, {12, 2, 7, 13, 4}, {is_short() ? 6 : 20, 20, 200, 1000, 2}};
}

// A result, and how far it may be from the reference: slack · eps · sqrt(terms) · magnitude, where
// eps is the spacing of the backend's Real at 1 and `terms` how many numbers the longest of its
// sums adds. A sum of n terms of random sign commits n roundings of partial sums that grow as
// sqrt(n): an error of about eps/4 · sqrt(n) times the result. `magnitude` is by default the
// largest value of the reference. Slacks are four to ten times what was measured (fp32 CPU). 0
// means exactly equal.
//
// Products of TF32 or bf16 inputs: a relative error of the inputs gives the same relative error of
// the result, for any number of terms, because errors of random sign add up as the terms do. For
// both inputs of a term this is added to eps · sqrt(terms). If inputs are truncated, all errors
// have one sign; the result then shrinks by the same relative error, so the bound still holds
// (CUDA_ON_CPU_TF32=truncate).
struct Output {
  std::string name;
  Tensor tensor;
  double slack = 0;
  std::int64_t terms = 1;
  std::optional<double> magnitude{};
};

// One backend with random inputs. Two sides that ask for the same things in the same order get the
// same numbers, all exact in a float.
class Side {
 public:
  explicit Side(std::unique_ptr<Backend> backend, double input_error = 0)
      : backend_(std::move(backend)), input_error_(input_error) {}
  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }
  ElementType real() const { return backend_->real_type(); }
  double input_error() const { return input_error_; }  // of products

  // Uniform in [low, high).
  Tensor reals(Shape shape, double low, double high) {
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (double& value : values) {
      const double u = static_cast<double>(random_() >> 8) / 16777216.0;  // 24 bits
      value = static_cast<float>(low + (high - low) * u);
    }
    return make_tensor(*backend_, real(), shape, values);
  }
  Tensor reals(Shape shape, double scale = 1) { return reals(shape, -scale, scale); }

  // Below `limit`.
  std::vector<double> integers(std::int64_t count, std::int64_t limit) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) value = static_cast<double>(random_() % limit);
    return values;
  }
  Tensor ids(Shape shape, std::int64_t limit) {
    return make_tensor(*backend_, ElementType::i32, shape, integers(shape.elements(), limit));
  }

  Tensor count(std::int64_t n) {
    return make_tensor(*backend_, ElementType::i32, {1}, std::vector<double>{double(n)});
  }

  // `used` rows of a table with `limit` rows; two more have no meaning and must not count.
  Rows rows(std::int64_t used, std::int64_t width, std::int64_t limit) {
    return {
        .packed = reals({used + 2, width}), .ids = ids({used + 2}, limit), .count = count(used)};
  }

  // For results that an operation must overwrite: what it leaves of this is seen.
  Tensor garbage(Shape shape) { return garbage(real(), shape); }
  Tensor garbage(ElementType type, Shape shape) {
    const std::vector<double> nans(static_cast<std::size_t>(shape.elements()),
                                   std::numeric_limits<double>::quiet_NaN());
    return make_tensor(*backend_, type, shape, nans);
  }
  Tensor scalar(double value) {
    return make_tensor(*backend_, ElementType::f64, {1}, std::vector<double>{value});
  }

  Dropout dropout(const Sizes& s, double keep_prob) {
    Dropout result = {.keep_prob = keep_prob, .seed = 5, .first_lane = 3, .masks = {}};
    if (keep_prob == 1) return result;
    const Shape shape = {s.L + 1, s.T, s.B, s.H};
    result.masks = make_tensor(*backend_, ElementType::u8, shape, integers(shape.elements(), 2));
    return result;
  }

  // Scaled so that sums stay of order 1; prepared.
  Weights weights(const Sizes& s, CellKind cell = CellKind::lstm) {
    const CellTraits traits = traits_of(cell);
    const double scale = 1.7 / std::sqrt(static_cast<double>(s.H));
    Weights w;
    w.embedding = reals({s.V, s.H});
    for (int l = 0; l < s.L; ++l) {
      w.layers.push_back(
          {.kernel = reals({2 * s.H, traits.gates * s.H}, scale),
           .bias = reals({traits.gates * s.H}),
           .recurrent_bias = traits.has_recurrent_share ? reals({traits.gates * s.H}) : Tensor()});
    }
    w.softmax_weight = reals({s.H, s.V}, scale);
    w.softmax_bias = reals({s.V});
    w.version = 1;
    backend_->prepare(w);
    return w;
  }

  // Contents as a forward pass leaves them: gates in (0, 1), cells and outputs in (-1, 1).
  StackActivations activations(const Sizes& s, bool drops, CellKind cell = CellKind::lstm) {
    const CellTraits traits = traits_of(cell);
    const Shape gates = {s.T, s.B, traits.gates * s.H};
    StackActivations a;
    a.input = reals({s.T, s.B, s.H});
    for (int l = 0; l < s.L; ++l) {
      a.gates.push_back(reals(gates, 0.05, 0.95));
      a.shares.push_back(traits.has_recurrent_share ? reals(gates) : Tensor());
      a.hidden.push_back(reals({s.T + 1, s.B, s.H}));
      a.cell.push_back(traits.has_c ? reals({s.T + 1, s.B, s.H}) : Tensor());
      // As in the model's workspace: without dropout, a layer's output is its hidden state.
      a.outputs.push_back(drops ? reals({s.T, s.B, s.H}) : a.hidden.back().slice(1, s.T));
    }
    return a;
  }

 private:
  std::unique_ptr<Backend> backend_;
  double input_error_;
  std::mt19937 random_{20140908};
};

using Operation = std::function<std::vector<Output>(Side&)>;

double largest(const std::vector<double>& values) {
  double result = 0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

// The worst |got - expected|; NaN or a difference of length counts as infinite.
double distance(const std::vector<double>& got, const std::vector<double>& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t k = 0; k < got.size(); ++k) {
    if (got[k] == expected[k]) continue;  // also equal infinities
    const double error = std::abs(got[k] - expected[k]);
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

void check_output(Side& side, const std::string& backend, const Output& output,
                  const std::vector<double>& expected) {
  const double eps = side.real() == ElementType::f32 ? std::numeric_limits<float>::epsilon()
                                                     : std::numeric_limits<double>::epsilon();
  const double magnitude = output.magnitude.value_or(std::max(largest(expected), 0.1));
  const double relative =
      eps * std::sqrt(static_cast<double>(output.terms)) + 2 * side.input_error();
  const double tolerance = output.slack * relative * magnitude;
  BOOST_TEST_CONTEXT(output.name) {
    const double difference = distance(values_of(*side, output.tensor), expected);
    test::note_difference(backend, difference, tolerance);
    BOOST_TEST(difference <= tolerance);
  }
}

// Portable products are slow, and loops that are right for the smaller sizes are for the large one.
enum class Portable { yes, no };

void check_against_reference(const Operation& operation, Portable portable = Portable::yes) {
  Side reference(make_reference_backend());
  std::vector<std::vector<double>> expected;
  for (const Output& output : operation(reference)) {
    expected.push_back(values_of(*reference, output.tensor));
  }
  for (const test::FastBackend& candidate : test::fast_backends()) {
    if (candidate.is_portable && portable == Portable::no) continue;
    BOOST_TEST_CONTEXT(candidate.name) {
      Side side(candidate.make(), candidate.input_error);
      Side again(candidate.make(), candidate.input_error);
      const std::vector<Output> outputs = operation(side);
      const std::vector<Output> repeated = operation(again);
      for (std::size_t k = 0; k < outputs.size(); ++k) {
        check_output(side, candidate.name, outputs[k], expected.at(k));
        BOOST_TEST_CONTEXT(outputs[k].name << ", repeated") {
          BOOST_TEST((bytes_of(*again, repeated[k].tensor) == bytes_of(*side, outputs[k].tensor)));
        }
      }
    }
  }
}

constexpr std::int64_t kWidest = 200;  // of sizes()

// Each size up to that H, without and with dropout.
void check_sizes(const std::function<std::vector<Output>(Side&, const Sizes&, double)>& operation,
                 std::int64_t largest_hidden = kWidest) {
  for (const Sizes& s : sizes()) {
    if (s.H > largest_hidden) continue;
    for (const double keep_prob : {1.0, 0.4}) {
      BOOST_TEST_CONTEXT("T " << s.T << ", B " << s.B << ", H " << s.H << ", V " << s.V << ", L "
                              << s.L << ", keep_prob " << keep_prob) {
        check_against_reference([&](Side& side) { return operation(side, s, keep_prob); },
                                s.H < kWidest ? Portable::yes : Portable::no);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE(operations)

BOOST_AUTO_TEST_CASE(a_backend_moves_and_zeroes_memory) {
  check_against_reference([](Side& side) {
    const Tensor a = side.reals({3, 5});
    const Tensor b = side.reals({3, 5});
    side->set_zero(a.slice(1, 1));
    return std::vector<Output>{{"partly zeroed", a},
                               {"untouched", b},
                               {"fresh", side->allocate(ElementType::i32, {7})},
                               {"empty", side->allocate(side.real(), {0, 5})}};
  });
}

// It has the values at its place in the order of work; later work does not change it.
BOOST_AUTO_TEST_CASE(begin_download_brings_what_was_there) {
  for (const test::FastBackend& backend : test::fast_backends()) {
    Side side(backend.make());
    const Tensor norm = side.scalar(2.5);
    const Arrival first = side->begin_download(norm);
    side->set_zero(norm);
    const Arrival second = side->begin_download(norm);
    while (!side->done(second.event)) continue;
    BOOST_TEST(side->done(first.event));
    const double before = first.read<double>(1).front(), after = second.read<double>(1).front();
    BOOST_TEST(before == 2.5);
    BOOST_TEST(after == 0.0);
  }
}

BOOST_AUTO_TEST_CASE(draw_dropout_follows_the_counter_packing) {
  for (const Sizes& s : sizes()) {
    check_against_reference([&](Side& side) {
      std::vector<Output> outputs;
      for (const double keep_prob : {0.35, 0.999}) {
        const Dropout dropout = {
            .keep_prob = keep_prob,
            .seed = 0x1234'5678'9abc'def0,
            .first_lane = 17,
            .masks = side->allocate(ElementType::u8, {s.L + 1, s.T, s.B, s.H})};
        side->set_step({.epoch = 3, .window = 1001, .learning_rate = 1});
        side->draw_dropout(dropout);
        outputs.push_back({"masks", dropout.masks});
      }
      return outputs;
    });
  }
}

BOOST_AUTO_TEST_CASE(load_window_takes_the_row_of_the_step) {
  for (const std::int64_t n : {0, 1, 33, 1000}) {
    check_against_reference([&](Side& side) {
      const Tensor table = side.ids({5, n}, 1'000'000);
      std::vector<Output> outputs;
      for (const int window : {0, 3, 4}) {
        const Tensor to = side->allocate(ElementType::i32, {n});
        side->set_step({.epoch = 1, .window = window, .learning_rate = 1});
        side->load_window({.table = table, .to = to});
        outputs.push_back({"row", to});
      }
      return outputs;
    });
  }
}

BOOST_AUTO_TEST_CASE(embedding) {
  check_sizes([](Side& side, const Sizes& s, double keep_prob) {
    const Dropout dropout = side.dropout(s, keep_prob);
    const EmbeddingForward op = {.table = side.reals({s.V, s.H}),
                                 .ids = side.ids({s.T, s.B}, s.V),
                                 .dropout = dropout,
                                 .out = side.garbage({s.T, s.B, s.H})};
    side->embedding(op);
    // A copy, or one product with the rounded 1/keep_prob.
    return std::vector<Output>{{"out", op.out, keep_prob == 1 ? 0.0 : 1.5}};
  });
}

// Positions of U words, dealt at random: about one word in three has none here, as a word of
// another rank's lanes.
struct WordRows {
  std::vector<double> row_begin, positions;
};

WordRows word_rows(Side& side, std::int64_t positions, std::int64_t words) {
  const std::vector<double> word_of = side.integers(positions, words);
  WordRows rows;
  for (std::int64_t u = 0; u < words; ++u) {
    rows.row_begin.push_back(static_cast<double>(rows.positions.size()));
    for (std::size_t p = 0; p < word_of.size(); ++p) {
      if (word_of[p] == static_cast<double>(u)) rows.positions.push_back(static_cast<double>(p));
    }
  }
  rows.row_begin.push_back(static_cast<double>(rows.positions.size()));
  return rows;
}

BOOST_AUTO_TEST_CASE(embedding_backward) {
  check_sizes([](Side& side, const Sizes& s, double keep_prob) {
    const Dropout dropout = side.dropout(s, keep_prob);
    const std::int64_t U = std::min(s.V, s.T * std::max<std::int64_t>(s.B, 2));
    const WordRows rows = word_rows(side, s.T * s.B, U);
    const EmbeddingBackward op = {
        .d_out = side.reals({s.T, s.B, s.H}),
        .row_begin = make_tensor(*side, ElementType::i32, {U + 1}, rows.row_begin),
        .positions = make_tensor(*side, ElementType::i32, {s.T * s.B}, rows.positions),
        .dropout = dropout,
        .rows = {.packed = side.garbage({U + 2, s.H}), .ids = {}, .count = side.count(U)}};
    side->embedding_backward(op);
    return std::vector<Output>{{"packed", op.rows.packed.slice(0, U), 1, 8}};
  });
}

// Every cell. Products, pieces, streams and schedules are those of the lstm, which is checked at
// every size. program/cells_test.py checks how threads share the lanes of a gru or rnn.
void check_cells(
    const std::function<std::vector<Output>(Side&, const Sizes&, double, CellKind)>& operation) {
  for (const CellKind cell : kCellKinds) {
    BOOST_TEST_CONTEXT(traits_of(cell).name) {
      check_sizes([&](Side& side, const Sizes& s,
                      double keep_prob) { return operation(side, s, keep_prob, cell); },
                  cell == CellKind::lstm ? kWidest
                  : is_short()           ? 5
                                         : 33);
    }
  }
}

// Errors of one step: 2H products, the sigmoid (8.9e-8) and the hyperbolic tangent (1.8e-7, 1.5
// eps); they travel on through T steps and L layers, but gates below 1 damp them. Cells
// without c carry h itself, whose error the recurrent weights multiply at every step.
BOOST_AUTO_TEST_CASE(stack) {
  check_cells([](Side& side, const Sizes& s, double keep_prob, CellKind cell) {
    const Dropout dropout = side.dropout(s, keep_prob);
    const Weights weights = side.weights(s, cell);
    StackActivations activations = side.activations(s, keep_prob < 1, cell);
    const Tensor h = side.reals({s.L, s.B, s.H});
    const Tensor c = traits_of(cell).has_c ? side.reals({s.L, s.B, s.H}) : Tensor();
    side->stack({.cell = {.kind = cell, .forget_bias = 0.75},
                 .weights = weights,
                 .dropout = dropout,
                 .activations = activations,
                 .h = h,
                 .c = c});
    const std::int64_t terms = 2 * s.H * s.L;
    const double slack = traits_of(cell).has_c ? 4 : 8;
    std::vector<Output> outputs = {{"h", h, slack, terms}};
    if (!c.empty()) outputs.push_back({"c", c, slack, terms});
    for (std::size_t l = 0; l < activations.gates.size(); ++l) {
      outputs.push_back({"gates", activations.gates[l], slack, terms});
      outputs.push_back({"hidden", activations.hidden[l], slack, terms});
      if (!c.empty()) outputs.push_back({"cell", activations.cell[l], slack, terms});
      outputs.push_back({"outputs", activations.outputs[l], slack, terms});
    }
    return outputs;
  });
}

BOOST_AUTO_TEST_CASE(stack_backward) {
  check_cells([](Side& side, const Sizes& s, double keep_prob, CellKind cell) {
    const Dropout dropout = side.dropout(s, keep_prob);
    const Weights weights = side.weights(s, cell);
    StackActivations activations = side.activations(s, keep_prob < 1, cell);
    const Tensor d_io = side.reals({s.T, s.B, s.H});
    side->stack_backward({.cell = {.kind = cell},
                          .weights = weights,
                          .dropout = dropout,
                          .activations = activations,
                          .d_io = d_io});
    const std::int64_t terms = 4 * s.H * s.L;
    std::vector<Output> outputs = {{"d_io", d_io, 8, terms}};
    for (std::size_t l = 0; l < activations.gates.size(); ++l) {
      outputs.push_back({"d_z", activations.gates[l], 8, terms});
      if (activations.shares[l].empty()) continue;
      outputs.push_back({"d_share", activations.shares[l], 8, terms});
    }
    return outputs;
  });
}

BOOST_AUTO_TEST_CASE(layer_weight_gradient) {
  check_cells([](Side& side, const Sizes& s, double keep_prob, CellKind cell) {
    const CellTraits traits = traits_of(cell);
    const std::int64_t columns = traits.gates * s.H;
    StackActivations activations = side.activations(s, keep_prob < 1, cell);
    std::vector<Output> outputs;
    for (int l = s.L - 1; l >= 0; --l) {
      const LayerWeightGradient op = {
          .layer = l,
          .activations = activations,
          .d_kernel = side.garbage({2 * s.H, columns}),
          .d_bias = side.garbage({columns}),
          .d_recurrent_bias = traits.has_recurrent_share ? side.garbage({columns}) : Tensor()};
      side->layer_weight_gradient(op);
      const std::int64_t terms = std::max<std::int64_t>(s.T * s.B, 1);
      outputs.push_back({"d_kernel", op.d_kernel, 4, terms});
      outputs.push_back({"d_bias", op.d_bias, 4, terms});
      if (!op.d_recurrent_bias.empty()) {
        outputs.push_back({"d_recurrent_bias", op.d_recurrent_bias, 4, terms});
      }
    }
    return outputs;
  });
}

BOOST_AUTO_TEST_CASE(softmax_loss) {
  check_sizes([](Side& side, const Sizes& s, double) {
    const std::int64_t N = s.T * s.B;
    const Weights weights = side.weights(s);
    const Tensor hidden = side.reals({N, s.H});
    const Tensor targets = side.ids({N}, s.V);
    std::vector<Output> outputs;
    for (const double scale : {0.05, 0.0}) {
      const SoftmaxLoss op = {.hidden = hidden,
                              .weights = weights,
                              .targets = targets,
                              .gradient_scale = scale,
                              .logits = side.garbage({N, s.V}),
                              .loss = side.garbage(ElementType::f64, {1})};
      side->softmax_loss(op);
      // A row's loss has an error of some eps of its logits, which are of order 1 to 3; errors of
      // rows add up like a random walk at best, and all one way at worst.
      outputs.push_back({"loss", op.loss, 2, s.H, static_cast<double>(N)});
      // |softmax - onehot| <= 1, whatever the largest value that was drawn.
      if (scale != 0) outputs.push_back({"d_logits", op.logits, 1, s.H, scale});
    }
    return outputs;
  });
}

BOOST_AUTO_TEST_CASE(softmax_loss_of_huge_logits_is_finite) {
  check_against_reference([](Side& side) {
    Weights weights;
    weights.softmax_weight = make_tensor(*side, side.real(), {1, 3}, std::vector{900.0, -900., 0.});
    weights.softmax_bias = make_tensor(*side, side.real(), {3}, std::vector{0.0, 0.0, 0.0});
    weights.version = 1;
    side->prepare(weights);
    const SoftmaxLoss op = {
        .hidden = make_tensor(*side, side.real(), {2, 1}, std::vector{1.0, -1.0}),
        .weights = weights,
        .targets = make_tensor(*side, ElementType::i32, {2}, std::vector{1.0, 2.0}),
        .gradient_scale = 1,
        .logits = side.garbage({2, 3}),
        .loss = side.garbage(ElementType::f64, {1})};
    side->softmax_loss(op);
    return std::vector<Output>{{"loss", op.loss, 2}, {"d_logits", op.logits, 2}};  // 1800 + 900
  });
}

BOOST_AUTO_TEST_CASE(softmax_backward) {
  check_sizes([](Side& side, const Sizes& s, double) {
    const std::int64_t N = s.T * s.B;
    const Weights weights = side.weights(s);
    const SoftmaxBackward op = {.hidden = side.reals({N, s.H}),
                                .weights = weights,
                                .d_logits = side.reals({N, s.V}),
                                .d_hidden = side.garbage({N, s.H}),
                                .d_weight = side.garbage({s.H, s.V}),
                                .d_bias = side.garbage({s.V})};
    side->softmax_backward(op);
    const std::int64_t positions = std::max<std::int64_t>(N, 1);
    return std::vector<Output>{{"d_hidden", op.d_hidden, 2, s.V},
                               {"d_weight", op.d_weight, 2, positions},
                               {"d_bias", op.d_bias, 2, positions}};
  });
}

// Weights of another version are packed anew; the same tensors with the old version need not be.
BOOST_AUTO_TEST_CASE(prepare_renews_what_a_backend_keeps) {
  const Sizes s = {3, 4, 9, 17, 2};
  check_against_reference([&](Side& side) {
    const Dropout dropout = side.dropout(s, 1);
    Weights weights = side.weights(s);
    std::vector<Output> outputs;
    for (int round = 0; round < 2; ++round) {
      StackActivations activations = side.activations(s, false);
      const Tensor h = side.reals({s.L, s.B, s.H});
      side->stack({.cell = {},
                   .weights = weights,
                   .dropout = dropout,
                   .activations = activations,
                   .h = h,
                   .c = side.reals({s.L, s.B, s.H})});
      const SoftmaxBackward op = {.hidden = side.reals({12, s.H}),
                                  .weights = weights,
                                  .d_logits = side.reals({12, s.V}),
                                  .d_hidden = side.garbage({12, s.H}),
                                  .d_weight = side.garbage({s.H, s.V}),
                                  .d_bias = side.garbage({s.V})};
      side->softmax_backward(op);
      outputs.push_back({"h", h, 4, 2 * s.H * s.L});
      outputs.push_back({"d_hidden", op.d_hidden, 4, s.V});
      for (const Weights::Layer& layer : weights.layers) side->set_zero(layer.kernel);
      side->set_zero(weights.softmax_weight);
      ++weights.version;
      side->prepare(weights);
    }
    return outputs;
  });
}

// One addition has one rounding; of doubles there is none more than the reference's.
BOOST_AUTO_TEST_CASE(add) {
  for (const std::int64_t elements : {0, 1, 7, 4097, 100'003}) {
    check_against_reference([&](Side& side) {
      const Addition op = {.to = side.reals({elements}), .from = side.reals({elements})};
      side->add(op);
      const std::vector<double> values(3, 0.1);
      const Addition doubles = {.to = make_tensor(*side, ElementType::f64, {3}, values),
                                .from = make_tensor(*side, ElementType::f64, {3}, values)};
      side->add(doubles);
      return std::vector<Output>{{"sum", op.to, 1}, {"sum of doubles", doubles.to, 0}};
    });
  }
}

// Squares are added in double: what is left is the rounding of that, far below a float's.
BOOST_AUTO_TEST_CASE(gradient_norm) {
  for (const std::int64_t dense : {1, 7, 4096, 100'003}) {
    for (const std::int64_t rows : {0, 1, 37}) {
      check_against_reference([&](Side& side) {
        const GradientNorm op = {
            .gradient = {.embedding = side.rows(rows, 33, 1), .dense = side.reals({dense})},
            .norm = side.garbage(ElementType::f64, {1})};
        side->gradient_norm(op);
        return std::vector<Output>{{"norm", op.norm, 1e-5}};
      });
    }
  }
}

BOOST_AUTO_TEST_CASE(gradient_norm_does_not_depend_on_threads) {
  std::optional<double> first;
  for (const int threads : {1, 2, 3, 7}) {
    Side side(make_backend({.name = "cpu", .threads = threads}));
    const GradientNorm op = {
        .gradient = {.embedding = side.rows(101, 33, 1), .dense = side.reals({100'003})},
        .norm = side.scalar(0)};
    side->gradient_norm(op);
    const double norm = download_scalar(*side, op.norm);
    BOOST_TEST(norm == first.value_or(norm));
    first = norm;
  }
}

// Values, and the sums of a gradient that is larger and one that is smaller than max_norm.
BOOST_AUTO_TEST_CASE(clip_step) {
  for (const double norm : {3.0, 80.0}) {
    check_against_reference([&](Side& side) {
      const ClipStep op = {
          .gradient = {.embedding = {.packed = side.reals({4, 7}),
                                     .ids = make_tensor(*side, ElementType::i32, {4},
                                                        std::vector{0., 4., 9., 5.}),
                                     .count = side.count(3)},
                       .dense = side.reals({10'001})},
          .embedding = side.reals({10, 7}),
          .dense = side.reals({10'001}),
          .norm = side.scalar(norm),
          .loss = side.scalar(100),
          .max_norm = 5,
          .failed = make_tensor(*side, ElementType::i32, {1}, std::vector{0.0})};
      side->set_step({.epoch = 0, .window = 0, .learning_rate = 0.37});
      side->clip_step(op);
      return std::vector<Output>{
          {"embedding", op.embedding, 2}, {"dense", op.dense, 2}, {"failed", op.failed}};
    });
  }
}

BOOST_AUTO_TEST_CASE(clip_step_stops_for_good_at_a_value_that_is_not_finite) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using Bad = std::pair<double, double>;
  for (const auto& [norm, loss] : {Bad{nan, 1}, Bad{infinity, 1}, Bad{1, nan}, Bad{1, infinity}}) {
    check_against_reference([&](Side& side) {
      ClipStep op = {.gradient = {.embedding = side.rows(1, 7, 10), .dense = side.reals({101})},
                     .embedding = side.reals({10, 7}),
                     .dense = side.reals({101}),
                     .norm = side.scalar(norm),
                     .loss = side.scalar(loss),
                     .max_norm = 5,
                     .failed = make_tensor(*side, ElementType::i32, {1}, std::vector{0.0})};
      side->set_step({.epoch = 0, .window = 0, .learning_rate = 1});
      side->clip_step(op);
      op.norm = op.loss = side.scalar(1);  // finite again
      side->clip_step(op);
      return std::vector<Output>{
          {"embedding", op.embedding}, {"dense", op.dense}, {"failed", op.failed}};
    });
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
