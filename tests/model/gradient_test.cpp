// The whole model over one window: its cost against the paper's formulas written out by hand, its
// gradient against finite differences of the cost, the gradients of two ranks against those of one,
// and the fast backends against the reference.
#define BOOST_TEST_MODULE model
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "ptb_dist/base/random.hpp"
#include "ptb_dist/model/language_model.hpp"
#include "support/device_values.hpp"
#include "support/differences.hpp"
#include "support/fast_backends.hpp"
#include "support/reference_backend.hpp"

namespace ptb {
namespace {

// One window of a small model, with everything that it starts from. The carried state is not zero.
struct Problem {
  std::int64_t V = 11, H = 3;
  int L = 2, T = 4, B = 5;
  double keep_prob = 1.0;
  double forget_bias = 0.5;
  CellKind cell = CellKind::lstm;

  static constexpr std::uint64_t kSeed = 77;
  static constexpr StepState kStep = {.epoch = 2, .window = 1, .learning_rate = 1};

  ModelShape shape() const {
    return {.vocab_size = V,
            .hidden_size = H,
            .num_layers = L,
            .cell = {.kind = cell, .forget_bias = forget_bias}};
  }
  LaneSlice all_lanes() const { return {.first = 0, .count = B, .global = B}; }

  // Reproducible numbers of order `scale`, exact in a float.
  static std::vector<double> numbers(std::int64_t count, double scale, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) {
      value = static_cast<float>(scale * (static_cast<double>(random()) / 2147483648.0 - 1));
    }
    return values;
  }
  // Large enough for gates to leave their linear range.
  std::vector<double> parameters() const {
    return numbers(ParameterTable(shape()).elements(), 0.8, 1);
  }
  std::vector<double> initial_h() const { return numbers(L * B * H, 0.7, 2); }  // [L,B,H]
  // Empty if the cell has none.
  std::vector<double> initial_c() const {
    return numbers(traits_of(cell).has_c ? L * B * H : 0, 1.5, 3);
  }
  // Two windows of lanes; the last word never occurs, others do several times.
  std::vector<std::int32_t> tokens() const {
    std::mt19937 random(4);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(B * (2 * T + 1)));
    for (auto& id : ids) id = static_cast<std::int32_t>(random() % static_cast<unsigned>(V - 1));
    return ids;
  }
};

// The problem on one backend, for the lanes of one rank.
class WindowModel {
 public:
  WindowModel(std::unique_ptr<Backend> backend, const Problem& problem, LaneSlice slice)
      : problem_(problem),
        slice_(slice),
        backend_(std::move(backend)),
        tokens_(problem.tokens()),
        lanes_(tokens_, problem.B, problem.T, {.split = "train"}),
        parameters_(*backend_, problem.shape()),
        gradients_(*backend_, problem.shape(), problem.V),
        windows_(*backend_, lanes_, std::span(&slice_, 1), Windows::Use::training),
        state_(*backend_, problem.shape(), slice.count),
        workspace_(*backend_, problem.shape(),
                   {.max_steps = problem.T,
                    .lanes = slice.count,
                    .softmax_rows = std::int64_t{problem.T} * slice.count,
                    .for_training = true,
                    .keep_prob = problem.keep_prob,
                    .seed = Problem::kSeed}),
        loss_(backend_->allocate(ElementType::f64, {1})),
        model_(*backend_, parameters_) {
    windows_.begin(Problem::kStep);
    set_parameters(problem.parameters());
  }

  Window window() const { return lanes_.window(Problem::kStep.window, slice_); }
  const ParameterTable& table() const { return parameters_.table(); }
  std::vector<double> state_h() { return values_of(*backend_, state_.h); }
  std::vector<double> state_c() {
    return state_.c.empty() ? std::vector<double>() : values_of(*backend_, state_.c);
  }

  void set_parameters(const std::vector<double>& values) {
    upload_values(*backend_, parameters_.slab(), values);
    parameters_.touch();
  }

  // Σ over this rank's positions of the cross-entropy / global lanes, from the initial state.
  double cost() {
    upload_values(*backend_, state_.h, of_slice(problem_.initial_h()));
    if (!state_.c.empty()) upload_values(*backend_, state_.c, of_slice(problem_.initial_c()));
    model_.forward(windows_.batch(0), state_, workspace_, loss_);
    return download_scalar(*backend_, loss_) / slice_.global;
  }

  // In the slab's order; the rows of the embedding are put in their places, other rows are 0. What
  // a segment says that it completes must not change any more.
  std::vector<double> gradient() {
    cost();
    const std::vector<Segment> segments =
        model_.backward_segments(windows_.batch(0), workspace_, gradients_);
    std::vector<std::vector<double>> completed;
    for (const Segment& segment : segments) {
      backend_->run_segment(segment.key, segment.enqueue);
      completed.push_back(completed_by(segment));
    }
    std::int64_t elements = 0;
    for (std::size_t k = 0; k < segments.size(); ++k) {
      elements += std::ssize(completed[k]);
      BOOST_TEST((completed[k] == completed_by(segments[k])));
    }
    BOOST_TEST(elements == gradients_.dense().elements() + windows_.words().count() * problem_.H);
    return in_slab_order(values_of(*backend_, gradients_.rows()),
                         values_of(*backend_, gradients_.dense()));
  }

 private:
  std::vector<double> completed_by(const Segment& segment) {
    if (!segment.completes) return {};
    return values_of(*backend_, gradients_.part(*segment.completes));
  }

  // Lanes of the slice of [L,B,H] values.
  std::vector<double> of_slice(const std::vector<double>& all) const {
    std::vector<double> part;
    for (int l = 0; l < problem_.L; ++l) {
      const auto begin = all.begin() + (l * problem_.B + slice_.first) * problem_.H;
      part.insert(part.end(), begin, begin + slice_.count * problem_.H);
    }
    return part;
  }

  std::vector<double> in_slab_order(const std::vector<double>& rows,
                                    const std::vector<double>& dense) const {
    std::vector<double> all(static_cast<std::size_t>(problem_.V * problem_.H), 0.0);
    const auto words = windows_.words().of(Problem::kStep.window);
    for (std::size_t u = 0; u < words.size(); ++u) {
      std::copy_n(rows.begin() + static_cast<std::int64_t>(u) * problem_.H, problem_.H,
                  all.begin() + words[u] * problem_.H);
    }
    all.insert(all.end(), dense.begin(), dense.end());
    return all;
  }

  Problem problem_;
  LaneSlice slice_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::int32_t> tokens_;
  Lanes lanes_;
  Parameters parameters_;
  Gradients gradients_;
  Windows windows_;
  RecurrentState state_;
  Workspace workspace_;
  Tensor loss_;
  LanguageModel model_;
};

// --- the paper's formulas, lane by lane and step by step ---

using Vector = std::vector<double>;

double sigma(double x) { return 1 / (1 + std::exp(-x)); }

// D(x) of the paper: the units of one lane at one step, dropped or scaled.
Vector dropped(const Problem& p, Vector x, int site, int lane, int time) {
  for (std::size_t k = 0; p.keep_prob < 1 && k < x.size(); ++k) {
    const RandomBlock words = dropout_words(Problem::kSeed,
                                            {.epoch = Problem::kStep.epoch,
                                             .window = Problem::kStep.window,
                                             .site = static_cast<std::uint32_t>(site),
                                             .lane = static_cast<std::uint32_t>(lane),
                                             .time = static_cast<std::uint32_t>(time)},
                                            static_cast<std::uint32_t>(k / 4));
    x[k] = words[k % 4] < keep_threshold(p.keep_prob) ? x[k] / p.keep_prob : 0.0;
  }
  return x;
}

// [1,R]·[R,C] + [1,C]
Vector affine(const Vector& x, const double* matrix, const double* bias, std::size_t columns) {
  Vector y(bias, bias + columns);
  for (std::size_t r = 0; r < x.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) y[c] += x[r] * matrix[r * columns + c];
  }
  return y;
}

// One layer, one lane, one step: h and c become those of the step. Each is written from the paper's
// formulas, the GRU's and the RNN's from the documentation of torch.nn.
void lstm_by_hand(const Problem& p, const Vector& x, const double* kernel, const double* bias,
                  Vector& h, Vector& c) {
  Vector xh = x;
  xh.insert(xh.end(), h.begin(), h.end());
  const std::size_t H = h.size();
  const Vector z = affine(xh, kernel, bias, 4 * H);
  for (std::size_t k = 0; k < H; ++k) {
    c[k] = c[k] * sigma(z[2 * H + k] + p.forget_bias) + sigma(z[k]) * std::tanh(z[H + k]);
    h[k] = sigma(z[3 * H + k]) * std::tanh(c[k]);
  }
}

void gru_by_hand(const Vector& x, const double* kernel, const double* bias,
                 const double* recurrent_bias, Vector& h) {
  const std::size_t H = h.size();
  const Vector i = affine(x, kernel, bias, 3 * H);
  const Vector g = affine(h, kernel + H * 3 * H, recurrent_bias, 3 * H);
  for (std::size_t k = 0; k < H; ++k) {
    const double r = sigma(i[k] + g[k]);
    const double z = sigma(i[H + k] + g[H + k]);
    const double n = std::tanh(i[2 * H + k] + r * g[2 * H + k]);
    h[k] = (1 - z) * n + z * h[k];
  }
}

void rnn_by_hand(const Vector& x, const double* kernel, const double* bias, Vector& h) {
  Vector xh = x;
  xh.insert(xh.end(), h.begin(), h.end());
  const Vector z = affine(xh, kernel, bias, h.size());
  for (std::size_t k = 0; k < h.size(); ++k) h[k] = std::tanh(z[k]);
}

struct ByHand {
  double cost = 0;
  Vector h, c;  // [L,B,H] after the window
};

ByHand by_hand(const Problem& p, const Window& window) {
  const Vector w = p.parameters();
  const ParameterTable table(p.shape());
  const auto entry = [&](std::size_t k) { return w.data() + table.entries()[k].offset; };
  ByHand result{0, p.initial_h(), p.initial_c()};
  for (int b = 0; b < p.B; ++b) {
    for (int t = 0; t < p.T; ++t) {
      const auto at = static_cast<std::size_t>(t * p.B + b);
      const double* row = entry(0) + window.inputs[at] * p.H;
      Vector x = dropped(p, Vector(row, row + p.H), 0, b, t);
      std::size_t next = 1;  // parameter
      for (int l = 0; l < p.L; ++l) {
        const auto h_at = result.h.begin() + (l * p.B + b) * p.H;
        Vector h(h_at, h_at + p.H);
        switch (p.cell) {
          case CellKind::lstm: {
            const auto c_at = result.c.begin() + (l * p.B + b) * p.H;
            Vector c(c_at, c_at + p.H);
            lstm_by_hand(p, x, entry(next), entry(next + 1), h, c);
            std::copy(c.begin(), c.end(), c_at);
            next += 2;
            break;
          }
          case CellKind::gru:
            gru_by_hand(x, entry(next), entry(next + 1), entry(next + 2), h);
            next += 3;
            break;
          case CellKind::rnn:
            rnn_by_hand(x, entry(next), entry(next + 1), h);
            next += 2;
            break;
        }
        std::copy(h.begin(), h.end(), h_at);
        x = dropped(p, h, l + 1, b, t);
      }
      const Vector s = affine(x, entry(next), entry(next + 1), static_cast<std::size_t>(p.V));
      double sum = 0;
      for (const double logit : s) sum += std::exp(logit);
      const auto target = static_cast<std::size_t>(window.targets[at]);
      result.cost -= std::log(std::exp(s[target]) / sum) / p.B;
    }
  }
  return result;
}

double largest_difference(const Vector& a, const Vector& b) {
  BOOST_TEST_REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    const double error = std::abs(a[k] - b[k]);
    if (!(error <= worst)) worst = error;  // keeps a NaN
  }
  return worst;
}

// Without dropout, with it, one layer, and sizes at which no quad of random words is whole.
const std::vector<Problem> kProblems = {
    {},
    {.keep_prob = 0.5},
    {.V = 7, .H = 6, .L = 1, .T = 3, .B = 2, .keep_prob = 0.5},
    {.keep_prob = 0.5, .cell = CellKind::gru},
    {.V = 7, .H = 6, .L = 1, .T = 3, .B = 2, .cell = CellKind::gru},
    {.keep_prob = 0.5, .cell = CellKind::rnn},
    {.V = 7, .H = 6, .L = 1, .T = 3, .B = 2, .cell = CellKind::rnn}};

BOOST_AUTO_TEST_SUITE(gradient)

// A dropout of the carried state, a swap of gates or of the kernel's rows: the gradient would still
// be the derivative of the cost, so the cost itself is checked first.
BOOST_AUTO_TEST_CASE(cost_and_carried_state_are_the_formulas) {
  for (const Problem& problem : kProblems) {
    WindowModel model(make_reference_backend(), problem, problem.all_lanes());
    const double cost = model.cost();
    const ByHand expected = by_hand(problem, model.window());
    BOOST_TEST(std::abs(cost - expected.cost) < 1e-13 * problem.T * std::log(problem.V));
    BOOST_TEST(largest_difference(model.state_h(), expected.h) < 1e-14);
    BOOST_TEST(largest_difference(model.state_c(), expected.c) < 1e-14);
  }
}

BOOST_AUTO_TEST_CASE(gradient_is_the_derivative_of_the_cost_by_every_parameter) {
  for (const Problem& problem : kProblems) {
    WindowModel model(make_reference_backend(), problem, problem.all_lanes());
    const Vector gradient = model.gradient();
    const Vector parameters = problem.parameters();
    for (const ParameterInfo& info : model.table().entries()) {
      double worst = 0, largest = 0;
      for (std::int64_t k = info.offset; k < info.offset + info.shape.elements(); ++k) {
        // Central differences: h²/6·f‴ = 2e-11·f‴ off, and 1e-15·cost/h = 1e-9 by rounding.
        constexpr double kStep = 1e-5;
        const auto at = static_cast<std::size_t>(k);
        Vector moved = parameters;
        moved[at] = parameters[at] + kStep;
        model.set_parameters(moved);
        const double above = model.cost();
        moved[at] = parameters[at] - kStep;
        model.set_parameters(moved);
        const double slope = (above - model.cost()) / (2 * kStep);
        worst = std::max(worst, std::abs(slope - gradient[at]));
        largest = std::max(largest, std::abs(gradient[at]));
      }
      BOOST_TEST_CONTEXT(info.name << ", keep_prob " << problem.keep_prob) {
        BOOST_TEST(worst < 2e-9);
        BOOST_TEST(largest > 0.001);  // there is something to compare
      }
    }
  }
}

// For any number of lanes on a rank, also one: costs and gradients of the ranks add up to those of
// the whole, and each rank has the states of its lanes. This fails unless dropout is keyed by the
// global lane and the cost is divided by the global lanes.
BOOST_AUTO_TEST_CASE(slices_add_up_to_the_whole) {
  for (const Problem& problem : kProblems) {
    WindowModel whole(make_reference_backend(), problem, problem.all_lanes());
    const Vector expected = whole.gradient();
    const double expected_cost = whole.cost();
    for (const int ranks : {2, problem.B, problem.B + 1}) {
      Vector sum(expected.size(), 0.0);
      double cost = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        WindowModel part(make_reference_backend(), problem, deal_lanes(problem.B, rank, ranks));
        const Vector gradient = part.gradient();
        std::transform(sum.begin(), sum.end(), gradient.begin(), sum.begin(), std::plus<>());
        cost += part.cost();
      }
      BOOST_TEST(largest_difference(sum, expected) < 1e-12);
      BOOST_TEST(std::abs(cost - expected_cost) < 1e-12);
    }
  }
}

// Of what this build has. An error of a float at each of T·B·(V + 4·H·L) terms adds up like the
// square root of their number; per parameter, in units of its largest gradient. Inputs of products
// that are rounded to TF32 or bf16 are wrong at every step and layer; what these weights, which
// saturate gates, make of it is measured (35 times the error of one input) and doubled.
BOOST_AUTO_TEST_CASE(fast_backends_agree_with_the_reference) {
  constexpr double kInputSlack = 70;
  const std::vector<Problem> problems = {
      {.keep_prob = 0.5},
      {.V = 101, .H = 33, .L = 2, .T = 9, .B = 5, .keep_prob = 1.0},
      {.V = 211, .H = 50, .L = 3, .T = 20, .B = 7, .keep_prob = 0.5}};
  for (const test::FastBackend& candidate : test::fast_backends()) {
    for (const Problem& problem : problems) {
      WindowModel fast(candidate.make(), problem, problem.all_lanes());
      WindowModel reference(make_reference_backend(), problem, problem.all_lanes());
      const Vector gradient = fast.gradient();
      const Vector expected = reference.gradient();
      BOOST_TEST_CONTEXT(candidate.name << ", H " << problem.H) {
        const double eps = std::numeric_limits<float>::epsilon();
        BOOST_TEST(std::abs(fast.cost() / reference.cost() - 1) < 2 * eps + candidate.input_error);
        for (const ParameterInfo& info : fast.table().entries()) {
          const auto part = [&info](const Vector& all) {
            return Vector(all.begin() + info.offset,
                          all.begin() + info.offset + info.shape.elements());
          };
          const double magnitude =
              largest_difference(part(expected), Vector(part(expected).size(), 0.0));
          const double terms = static_cast<double>(problem.T * problem.B) *
                               static_cast<double>(problem.V + 4 * problem.H * problem.L);
          BOOST_TEST_CONTEXT(info.name) {
            const double difference = largest_difference(part(gradient), part(expected));
            const double tolerance =
                (eps * std::sqrt(terms) + kInputSlack * candidate.input_error) * magnitude;
            test::note_difference(candidate.name, difference, tolerance);
            BOOST_TEST(difference < tolerance);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(evaluation)

// Two lanes through 17 tokens each on the reference, in windows of `num_steps`, the softmax in
// shares of `share` positions.
double evaluated(int num_steps, std::int64_t share, bool with_dropout) {
  const Problem problem;
  const std::unique_ptr<Backend> backend = make_reference_backend();
  std::mt19937 random(9);
  std::vector<std::int32_t> tokens(34);
  for (auto& id : tokens) id = static_cast<std::int32_t>(random() % 11);
  const Lanes lanes(tokens, 2, num_steps, {.split = "test"}, Remainder::keep);
  const LaneSlice slice = {.first = 0, .count = 2, .global = 2};
  Parameters parameters(*backend, problem.shape());
  upload_values(*backend, parameters.slab(), problem.parameters());
  LanguageModel model(*backend, parameters);
  Windows windows(*backend, lanes, std::span(&slice, 1), Windows::Use::evaluation);
  const Batch& batch = windows.batch(0);
  RecurrentState state(*backend, problem.shape(), 2);
  Workspace workspace(*backend, problem.shape(),
                      {.max_steps = num_steps,
                       .lanes = slice.count,
                       .softmax_rows = share,
                       .for_training = false,
                       .keep_prob = with_dropout ? 0.5 : 1.0,
                       .seed = 1});
  double sum = 0;
  for (int index = 0; index < lanes.windows(); ++index) {
    windows.begin({.window = index});
    const std::int64_t positions = std::int64_t{batch.num_steps()} * 2;
    std::vector<PositionRange> shares;
    for (std::int64_t first = 0; first < positions; first += share) {
      shares.push_back({.first = first, .count = std::min(share, positions - first)});
    }
    const Tensor losses = backend->allocate(ElementType::f64, {std::ssize(shares)});
    model.evaluate(batch, state, workspace, shares, losses);
    for (const double loss : values_of(*backend, losses)) sum += loss;
  }
  return sum;
}

// 16 predictions a lane: one window of 16, windows of 4, or of 5 with a last one of 1.
BOOST_AUTO_TEST_CASE(windows_and_shares_make_no_difference) {
  const double whole = evaluated(16, 32, false);
  BOOST_TEST(std::abs(evaluated(4, 8, false) - whole) < 1e-12);
  BOOST_TEST(std::abs(evaluated(5, 10, false) - whole) < 1e-12);
  BOOST_TEST(std::abs(evaluated(16, 5, false) - whole) < 1e-12);
}

BOOST_AUTO_TEST_CASE(nothing_is_dropped) {
  BOOST_TEST(evaluated(4, 8, true) == evaluated(4, 8, false));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
