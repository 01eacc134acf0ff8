// Products in tiles: every edge of a tile, plain tiles against the sum in double, and the
// processor's tiles, where it has them, against the plain ones bit for bit.
#include "backend/cpu/tiles.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/tile_products.hpp"
#include "support/plain_tiles.hpp"

namespace ptb {
namespace {

struct Sizes {
  std::int64_t M, K, N;
};

// Around one tile, one block, one pass of K (768) and what is packed at a time (128 columns).
std::vector<Sizes> sizes() {
  std::vector<Sizes> all;
  for (const std::int64_t M : {1, 15, 17, 33}) {
    for (const std::int64_t K : {1, 31, 33}) {
      for (const std::int64_t N : {1, 16, 17, 31, 40}) all.push_back({M, K, N});
    }
  }
  all.insert(all.end(), {{20, 769, 24}, {70, 40, 130}, {200, 65, 20}, {3, 800, 270}});
  return all;
}

std::vector<float> numbers(std::int64_t n, int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = static_cast<float>(random() >> 8) / 8388608.0f - 1;
  return values;
}

// All ways in which a product is asked for, one after the other.
enum class Way { weights, transposed_weights, added, left_transposed };

std::vector<float> product(Products& products, const Sizes& s, Way way) {
  const std::vector<float> a = numbers(s.M * s.K, 1), b = numbers(s.K * s.N, 2);
  std::vector<float> c = numbers(s.M * s.N, 3);
  if (way != Way::added) {
    std::fill(c.begin(), c.end(), std::numeric_limits<float>::quiet_NaN());
  }
  const MatrixView left = {a.data(), s.M, s.K};
  switch (way) {
    case Way::weights:
      products.multiply_weights(left, {{b.data(), s.K, s.N}, 1}, c.data());
      break;
    case Way::transposed_weights:
      products.multiply_packed(left, {{b.data(), s.K, s.N, true}, 1}, Into::overwrite, c.data());
      break;
    case Way::added:
      products.multiply_packed(left, {{b.data(), s.K, s.N}, 1}, Into::add, c.data());
      break;
    case Way::left_transposed:
      products.multiply({a.data(), s.M, s.K, true}, {b.data(), s.K, s.N}, c.data());
      break;
  }
  return c;
}

// Of rounded operands.
double expected(const Sizes& s, Way way, std::int64_t m, std::int64_t n) {
  static thread_local std::vector<float> a, b, c;
  if (m == 0 && n == 0) {
    a = numbers(s.M * s.K, 1), b = numbers(s.K * s.N, 2), c = numbers(s.M * s.N, 3);
  }
  const auto at = [](const std::vector<float>& x, std::int64_t i) {
    return double{from_bf16(to_bf16(x[static_cast<std::size_t>(i)]))};
  };
  double sum = way == Way::added ? double{c[static_cast<std::size_t>(m * s.N + n)]} : 0;
  for (std::int64_t k = 0; k < s.K; ++k) {
    sum += at(a, way == Way::left_transposed ? k * s.M + m : m * s.K + k) *
           at(b, way == Way::transposed_weights ? n * s.K + k : k * s.N + n);
  }
  return sum;
}

std::unique_ptr<Products> plain_tiles(int threads) {
  return make_tile_products({.multiply = test::multiply_in_plain_tiles, .arithmetic = "plain"},
                            threads);
}

constexpr Way kWays[] = {Way::weights, Way::transposed_weights, Way::added, Way::left_transposed};

BOOST_AUTO_TEST_SUITE(tile_products)

BOOST_AUTO_TEST_CASE(are_the_products_of_rounded_operands) {
  for (const Sizes& s : sizes()) {
    for (const Way way : kWays) {
      const std::vector<float> c = product(*plain_tiles(1), s, way);
      double worst = 0;
      for (std::int64_t m = 0; m < s.M; ++m) {
        for (std::int64_t n = 0; n < s.N; ++n) {
          const double difference =
              std::abs(double{c[static_cast<std::size_t>(m * s.N + n)]} - expected(s, way, m, n));
          worst = std::isnan(difference) ? 1e9 : std::max(worst, difference);
        }
      }
      // Roundings of sums of K numbers below 1, whose size is near sqrt(K) / 3.
      const double bound = 1e-7 * static_cast<double>(s.K + 2);
      BOOST_TEST(worst <= bound, "M " << s.M << ", K " << s.K << ", N " << s.N << ", way "
                                      << static_cast<int>(way) << ": " << worst);
    }
  }
}

BOOST_AUTO_TEST_CASE(do_not_depend_on_threads_or_neighbours) {
  const Sizes s = {70, 40, 130};
  for (const Way way : kWays) {
    const std::vector<float> one = product(*plain_tiles(1), s, way);
    for (const int threads : {2, 3}) BOOST_TEST((product(*plain_tiles(threads), s, way) == one));
  }
  // A row of a alone.
  const std::vector<float> a = numbers(s.M * s.K, 1), b = numbers(s.K * s.N, 2);
  std::vector<float> row(static_cast<std::size_t>(s.N));
  plain_tiles(1)->multiply_weights({a.data() + 41 * s.K, 1, s.K}, {{b.data(), s.K, s.N}, 1},
                                   row.data());
  const std::vector<float> all = product(*plain_tiles(1), s, Way::weights);
  BOOST_TEST(std::equal(row.begin(), row.end(), all.begin() + 41 * s.N));
}

BOOST_AUTO_TEST_CASE(are_the_same_bits_in_plain_tiles_and_in_the_processors) {
  if (!amx::is_there()) {
    BOOST_TEST_MESSAGE("skipped: no AMX");
    return;
  }
  for (const Sizes& s : sizes()) {
    for (const Way way : kWays) {
      const auto fresh = make_tile_products({.multiply = amx::multiply, .arithmetic = "amx"}, 1);
      BOOST_TEST(
          (product(*fresh, s, way) == product(*plain_tiles(1), s, way)),
          "M " << s.M << ", K " << s.K << ", N " << s.N << ", way " << static_cast<int>(way));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
