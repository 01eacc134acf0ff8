// The formulas of backend/cell_math.hpp: the float exponential against the library's in double, and
// the cell's backward formulas against finite differences of its forward ones.
#define BOOST_TEST_MODULE backend
#include "ptb_dist/backend/cell_math.hpp"

#include <array>
#include <boost/test/unit_test.hpp>
#include <limits>
#include <vector>

namespace ptb {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Floats of both signs from -limit to limit, ascending: each 499th of those that exist, so that all
// magnitudes and all places within a power of two are met. About 4.5 million for 87.
const std::vector<float>& dense_sample() {
  static const std::vector<float> sample = [] {
    std::vector<float> values;
    constexpr std::uint32_t kStride = 499;
    const std::uint32_t last = std::bit_cast<std::uint32_t>(87.3f) / kStride * kStride;
    for (std::uint32_t bits = last; bits > 0; bits -= kStride) {
      values.push_back(-std::bit_cast<float>(bits));
    }
    for (std::uint32_t bits = 0; bits <= last; bits += kStride) {
      values.push_back(std::bit_cast<float>(bits));
    }
    return values;
  }();
  return sample;
}

// The distance of neighbouring floats at a value.
double unit_in_the_last_place(double value) {
  return std::ldexp(1.0, std::ilogb(value) - (std::numeric_limits<float>::digits - 1));
}

BOOST_AUTO_TEST_SUITE(cell_math)

// 1.22 was the largest of every 7th float (0.92 where products and sums are fused).
BOOST_AUTO_TEST_CASE(float_exponential_is_within_1_25_units_in_the_last_place) {
  double worst = 0;
  float worst_at = 0;
  for (const float x : dense_sample()) {
    const double exact = std::exp(static_cast<double>(x));
    const double error = std::abs(cell::exponential(x) - exact) / unit_in_the_last_place(exact);
    if (error > worst) {
      worst = error;
      worst_at = x;
    }
  }
  BOOST_TEST_CONTEXT("x = " << worst_at) { BOOST_TEST(worst <= 1.25); }
}

// A relative step back of one unit would be harmless; none was seen.
BOOST_AUTO_TEST_CASE(float_exponential_never_falls_by_more_than_a_unit) {
  float before = cell::exponential(dense_sample().front());
  int falls = 0;
  for (const float x : dense_sample()) {
    const float now = cell::exponential(x);
    if (now < before - unit_in_the_last_place(before)) ++falls;
    before = now;
  }
  BOOST_TEST(falls == 0);
}

BOOST_AUTO_TEST_CASE(float_exponential_is_clamped_and_keeps_nan) {
  for (const float x : {-88.0f, -1e30f, -kInfinity}) {
    BOOST_TEST(cell::exponential(x) == cell::exponential(-87.3f));
    BOOST_TEST(std::isnormal(cell::exponential(x)));
  }
  for (const float x : {89.0f, 1e30f, kInfinity}) {
    BOOST_TEST(cell::exponential(x) == cell::exponential(88.0f));
    BOOST_TEST(std::isnormal(cell::exponential(x)));
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  BOOST_TEST(std::isnan(cell::exponential(nan)));
  BOOST_TEST(std::isnan(cell::sigmoid(nan)));
  BOOST_TEST(std::isnan(cell::hyperbolic_tangent(nan)));
  BOOST_TEST(cell::exponential(0.0f) == 1.0f);
}

// Of every 7th float the largest errors were 8.9e-8 and 1.8e-7: 1.5 and 3 times the spacing of
// floats just below 1.
BOOST_AUTO_TEST_CASE(float_sigmoid_has_a_small_absolute_error) {
  double worst = 0;
  for (const float x : dense_sample()) {
    worst = std::max(worst, std::abs(cell::sigmoid(x) - 1 / (1 + std::exp(-double{x}))));
  }
  BOOST_TEST(worst <= 9.0e-8);
}

// Near 0 as well: a young model's arguments lie there.
BOOST_AUTO_TEST_CASE(float_tanh_has_a_small_relative_error) {
  double worst = 0;
  for (const float x : dense_sample()) {
    if (std::abs(x) < 1e-30f) continue;  // the relative error of a denormal is its granularity
    const double exact = std::tanh(double{x});
    worst = std::max(worst, std::abs(cell::hyperbolic_tangent(x) - exact) / std::abs(exact));
  }
  BOOST_TEST(worst <= 3.0e-7);
  BOOST_TEST(cell::hyperbolic_tangent(0.0f) == 0.0f);
}

BOOST_AUTO_TEST_CASE(sigmoid_and_tanh_saturate) {
  for (const float x : {-100.0f, -kInfinity}) {
    BOOST_TEST(cell::sigmoid(x) < 1e-37f);
    BOOST_TEST(cell::hyperbolic_tangent(x) == -1.0f);
    BOOST_TEST(cell::sigmoid(-x) == 1.0f);
    BOOST_TEST(cell::hyperbolic_tangent(-x) == 1.0f);
  }
}

// Hand-written with the library's functions, so that a swap of two gates is seen.
BOOST_AUTO_TEST_CASE(lstm_forward_is_the_formula) {
  const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto unit = cell::lstm_forward(0.3, -0.7, 1.1, 0.2, -0.4, 0.5);
  BOOST_TEST(unit.i == sigma(0.3));
  BOOST_TEST(unit.j == std::tanh(-0.7));
  BOOST_TEST(unit.f == sigma(1.1 + 0.5));
  BOOST_TEST(unit.o == sigma(0.2));
  BOOST_TEST(unit.c == -0.4 * sigma(1.6) + sigma(0.3) * std::tanh(-0.7));
  BOOST_TEST(unit.h == sigma(0.2) * std::tanh(unit.c));
}

// In: zi, zj, zf, zo, c_before. The scalar whose gradient is taken: d_h·h′ + d_c·c′.
using CellInput = std::array<double, 5>;

double weighted_outputs(const CellInput& in, double d_h, double d_c) {
  const auto unit = cell::lstm_forward(in[0], in[1], in[2], in[3], in[4], 0.25);
  return d_h * unit.h + d_c * unit.c;
}

BOOST_AUTO_TEST_CASE(lstm_backward_is_the_derivative_of_lstm_forward) {
  const std::vector<CellInput> inputs = {{0.3, -0.7, 1.1, 0.2, -0.4},
                                         {-2.0, 1.5, -0.6, 3.0, 2.5},
                                         {0.0, 0.0, 0.0, 0.0, 0.0},
                                         {5.0, 4.0, -5.0, -4.0, 0.9}};
  const std::vector<std::array<double, 2>> weights = {{1.3, -0.8}, {0.0, 1.0}, {1.0, 0.0}};
  for (const CellInput& in : inputs) {
    for (const auto& [d_h, d_c] : weights) {
      const auto u = cell::lstm_forward(in[0], in[1], in[2], in[3], in[4], 0.25);
      const auto g = cell::lstm_backward(u.i, u.j, u.f, u.o, in[4], u.c, d_h, d_c);
      const CellInput gradient = {g.zi, g.zj, g.zf, g.zo, g.c_before};
      for (std::size_t k = 0; k < in.size(); ++k) {
        // Central differences: error h²/6·f‴ = 2e-11·f‴ and rounding 1e-16/h = 1e-11.
        constexpr double kStep = 1e-5;
        CellInput above = in, below = in;
        above[k] += kStep;
        below[k] -= kStep;
        const double slope =
            (weighted_outputs(above, d_h, d_c) - weighted_outputs(below, d_h, d_c)) / (2 * kStep);
        BOOST_TEST(std::abs(slope - gradient[k]) < 1e-9);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gru_forward_is_the_formula) {
  const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto unit = cell::gru_forward(0.3, -0.7, 1.1, 0.2, -0.4, 0.5, 0.9);
  BOOST_TEST(unit.r == sigma(0.3 + 0.2));
  BOOST_TEST(unit.z == sigma(-0.7 - 0.4));
  BOOST_TEST(unit.n == std::tanh(1.1 + unit.r * 0.5));
  BOOST_TEST(unit.h == (1 - unit.z) * unit.n + unit.z * 0.9);
}

// In: xr, xz, xn, sn, h_before; sr and sz are 0, since their gradients are those of xr and xz.
BOOST_AUTO_TEST_CASE(gru_backward_is_the_derivative_of_gru_forward) {
  const auto output = [](const CellInput& in) {
    return 1.3 * cell::gru_forward(in[0], in[1], in[2], 0.0, 0.0, in[3], in[4]).h;
  };
  for (const CellInput& in : std::vector<CellInput>{
           {0.3, -0.7, 1.1, 0.2, -0.4}, {-2.0, 1.5, -0.6, 3.0, 2.5}, {0.0, 0.0, 0.0, 0.0, 0.0}}) {
    const auto u = cell::gru_forward(in[0], in[1], in[2], 0.0, 0.0, in[3], in[4]);
    const auto g = cell::gru_backward(u.r, u.z, u.n, in[3], in[4], 1.3);
    const CellInput gradient = {g.xr, g.xz, g.xn, g.sn, g.h_before};
    for (std::size_t k = 0; k < in.size(); ++k) {
      constexpr double kStep = 1e-5;
      CellInput above = in, below = in;
      above[k] += kStep;
      below[k] -= kStep;
      BOOST_TEST(std::abs((output(above) - output(below)) / (2 * kStep) - gradient[k]) < 1e-9);
    }
  }
}

BOOST_AUTO_TEST_CASE(rnn_backward_is_the_derivative_of_rnn_forward) {
  for (const double z : {0.0, 0.7, -2.0}) {
    constexpr double kStep = 1e-5;
    const double slope =
        (cell::rnn_forward(z + kStep) - cell::rnn_forward(z - kStep)) / (2 * kStep);
    BOOST_TEST(cell::rnn_forward(z) == std::tanh(z));
    BOOST_TEST(std::abs(cell::rnn_backward(std::tanh(z), 1.3) - 1.3 * slope) < 1e-9);
  }
}

BOOST_AUTO_TEST_CASE(dropped_scales_what_is_kept) {
  BOOST_TEST(cell::dropped(3.0f, 1, 2.0f) == 6.0f);
  BOOST_TEST(cell::dropped(3.0f, 0, 2.0f) == 0.0f);
  // Not a product with 0, which would let a NaN of a dropped unit through.
  BOOST_TEST(cell::dropped(std::numeric_limits<float>::quiet_NaN(), 0, 2.0f) == 0.0f);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
