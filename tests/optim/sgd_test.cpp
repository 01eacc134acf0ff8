// The learning-rate schedule, and the clip and step by hand-computed numbers.
#define BOOST_TEST_MODULE optim
#include "ptb_dist/optim/sgd.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

#include "support/device_values.hpp"
#include "support/reference_backend.hpp"

namespace ptb {
namespace {

// V = 3, H = 1, L = 1: embedding 3, kernel 8, bias 4, softmax weight 3 and bias 3 = 21 parameters,
// all 1 at first. The gradient is zero but for two rows of the embedding and two dense elements.
class Fixture {
 public:
  explicit Fixture(std::unique_ptr<Backend> backend, double max_grad_norm)
      : backend_(std::move(backend)),
        parameters_(*backend_, {.vocab_size = 3, .hidden_size = 1, .num_layers = 1, .cell = {}}),
        gradients_(*backend_, parameters_.shape(), 3),
        ids_(make_tensor(*backend_, ElementType::i32, {3}, std::vector{0.0, 2.0, 0.0})),
        count_(make_tensor(*backend_, ElementType::i32, {1}, std::vector{2.0})),
        loss_(backend_->allocate(ElementType::f64, {1})),
        sgd_(*backend_, max_grad_norm) {
    upload_values(*backend_, parameters_.slab(), std::vector<double>(21, 1.0));
    upload_values(*backend_, gradients_.rows(), std::vector{2.0, 4.0, 1e30});  // U = 2: no third
    std::vector<double> dense(18, 0.0);
    dense[0] = 1;    // kernel[0,0]
    dense[17] = -2;  // softmax bias[2]
    upload_values(*backend_, gradients_.dense(), dense);
  }

  void step(double learning_rate, double loss) {
    backend_->set_step({.epoch = 0, .window = 0, .learning_rate = learning_rate});
    upload_values(*backend_, loss_, std::vector{loss});
    const GradientView gradient = {
        .embedding = {.packed = gradients_.rows(), .ids = ids_, .count = count_},
        .dense = gradients_.dense()};
    sgd_.step(parameters_, gradient, loss_);
  }
  void set_dense_gradient(std::int64_t at, double value) {
    upload_values(*backend_, gradients_.dense().slice(at, 1), std::vector{value});
  }

  std::vector<double> values() { return values_of(*backend_, parameters_.slab()); }
  double norm() { return download_scalar(*backend_, sgd_.norm()); }
  bool has_failed() { return values_of(*backend_, sgd_.failed())[0] != 0; }
  std::uint64_t version() const { return parameters_.weights().version; }

 private:
  std::unique_ptr<Backend> backend_;
  Parameters parameters_;
  Gradients gradients_;
  Tensor ids_, count_;
  Tensor loss_;
  Sgd sgd_;
};

// 21 ones, less `change` times the gradient.
std::vector<double> ones_less(double change) {
  std::vector<double> expected(21, 1.0);
  expected[0] -= change * 2;
  expected[2] -= change * 4;
  expected[3] -= change * 1;
  expected[20] += change * 2;
  return expected;
}

void check_close(const std::vector<double>& got, const std::vector<double>& expected) {
  BOOST_TEST_REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    // Values of order 1, three roundings of a float.
    BOOST_TEST_CONTEXT("element " << k) { BOOST_TEST(std::abs(got[k] - expected[k]) < 2e-7); }
  }
}

using Factory = std::unique_ptr<Backend> (*)();
std::unique_ptr<Backend> make_cpu() { return make_backend({.name = "cpu"}); }
const Factory kFactories[] = {make_reference_backend, make_cpu};

BOOST_AUTO_TEST_SUITE(schedule)

// Each epoch's rate of the four configurations of the paper, by hand: the full rate while
// epoch + 1 <= max_epoch, then one factor of lr_decay more each epoch.
BOOST_AUTO_TEST_CASE(rates_of_the_configurations) {
  const Schedule test = {.learning_rate = 1.0, .lr_decay = 0.5, .max_epoch = 1};
  BOOST_TEST(test.at(0) == 1.0);

  const Schedule small = {.learning_rate = 1.0, .lr_decay = 0.5, .max_epoch = 4};
  const double of_small[] = {1,      1,       1,        1,         0.5,        0.25,       0.125,
                             0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125};
  for (int epoch = 0; epoch < 13; ++epoch) BOOST_TEST(small.at(epoch) == of_small[epoch]);

  const Schedule medium = {.learning_rate = 1.0, .lr_decay = 0.8, .max_epoch = 6};
  for (int epoch = 0; epoch < 6; ++epoch) BOOST_TEST(medium.at(epoch) == 1.0);
  BOOST_TEST(medium.at(6) == 0.8);
  BOOST_TEST(std::abs(medium.at(7) - 0.64) < 1e-15);
  BOOST_TEST(std::abs(medium.at(38) / 6.338253001141158e-4 - 1) < 1e-12);  // 0.8^33

  const Schedule large = {.learning_rate = 1.0, .lr_decay = 1 / 1.15, .max_epoch = 14};
  for (int epoch = 0; epoch < 14; ++epoch) BOOST_TEST(large.at(epoch) == 1.0);
  BOOST_TEST(std::abs(large.at(14) - 0.8695652173913043) < 1e-15);
  BOOST_TEST(std::abs(large.at(54) / 3.2462992057507886e-3 - 1) < 1e-12);  // 1.15^-41
}

BOOST_AUTO_TEST_CASE(the_rate_is_a_factor) {
  const Schedule schedule = {.learning_rate = 20, .lr_decay = 0.5, .max_epoch = 2};
  BOOST_TEST(schedule.at(1) == 20.0);
  BOOST_TEST(schedule.at(3) == 5.0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(sgd)

// norm = sqrt(2² + 4² + 1² + 2²) = 5: at the limit nothing is scaled.
BOOST_AUTO_TEST_CASE(a_small_gradient_is_not_clipped) {
  for (const Factory make : kFactories) {
    for (const double max_norm : {5.0, 7.0}) {
      Fixture f(make(), max_norm);
      f.step(0.1, 1.0);
      BOOST_TEST(f.norm() == 5.0);
      check_close(f.values(), ones_less(0.1));
      BOOST_TEST(!f.has_failed());
    }
  }
}

// 2 / 5 of the gradient at rate 0.1. Two steps, with another rate: 0.04 + 0.2.
BOOST_AUTO_TEST_CASE(a_large_gradient_is_scaled_to_the_limit) {
  for (const Factory make : kFactories) {
    Fixture f(make(), 2.0);
    f.step(0.1, 1.0);
    BOOST_TEST(f.norm() == 5.0);  // before the clip
    check_close(f.values(), ones_less(0.04));
    f.step(0.5, 1.0);
    check_close(f.values(), ones_less(0.24));
  }
}

// A word that occurs at several positions has one row, their sum, and the norm is that of the sum:
// with rows of 1 + 2 and 4 it is 5. With unmerged slices it would be sqrt(21).
BOOST_AUTO_TEST_CASE(rows_of_a_word_are_merged_in_the_norm) {
  for (const Factory make : kFactories) {
    const auto backend = make();
    const ElementType real = backend->real_type();
    const Dropout none;
    const EmbeddingBackward op = {
        .d_out = make_tensor(*backend, real, {3, 1, 1}, std::vector{1.0, 4.0, 2.0}),
        .row_begin = make_tensor(*backend, ElementType::i32, {3}, std::vector{0.0, 2.0, 3.0}),
        .positions = make_tensor(*backend, ElementType::i32, {3}, std::vector{0.0, 2.0, 1.0}),
        .dropout = none,
        .rows = {.packed = backend->allocate(real, {2, 1}),
                 .ids = make_tensor(*backend, ElementType::i32, {2}, std::vector{0.0, 1.0}),
                 .count = make_tensor(*backend, ElementType::i32, {1}, std::vector{2.0})}};
    backend->embedding_backward(op);
    const Tensor norm = backend->allocate(ElementType::f64, {1});
    backend->gradient_norm(
        {.gradient = {.embedding = op.rows,
                      .dense = make_tensor(*backend, real, {1}, std::vector{0.0})},
         .norm = norm});
    BOOST_TEST(download_scalar(*backend, norm) == 5.0);
  }
}

BOOST_AUTO_TEST_CASE(a_step_raises_the_version_of_the_weights) {
  Fixture f(make_reference_backend(), 5.0);
  const std::uint64_t before = f.version();
  f.step(0.1, 1.0);
  BOOST_TEST(f.version() > before);
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_suppresses_this_and_every_later_update) {
  for (const Factory make : kFactories) {
    for (const double loss :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      Fixture f(make(), 5.0);
      f.step(0.1, 1.0);
      f.step(0.1, loss);
      BOOST_TEST(f.has_failed());
      check_close(f.values(), ones_less(0.1));
      f.step(0.1, 1.0);
      BOOST_TEST(f.has_failed());
      check_close(f.values(), ones_less(0.1));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_norm_that_is_not_finite_suppresses_this_and_every_later_update) {
  for (const Factory make : kFactories) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
      Fixture f(make(), 5.0);
      f.set_dense_gradient(5, bad);
      f.step(0.1, 1.0);
      BOOST_TEST(f.has_failed());
      BOOST_TEST(!std::isfinite(f.norm()));
      BOOST_TEST((f.values() == std::vector<double>(21, 1.0)));
      f.set_dense_gradient(5, 0.0);
      f.step(0.1, 1.0);
      BOOST_TEST(f.has_failed());
      BOOST_TEST((f.values() == std::vector<double>(21, 1.0)));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
