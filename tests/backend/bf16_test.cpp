// Rounding to bf16, one number at a time and by the vectorised loop.
#include "backend/cpu/bf16.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cpu/loops.hpp"

namespace ptb {
namespace {

// Every upper half, with the lower halves around which rounding turns.
std::vector<float> floats() {
  std::vector<float> values;
  for (std::uint32_t upper = 0; upper <= 0xffff; ++upper) {
    for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      values.push_back(std::bit_cast<float>(upper << 16 | lower));
    }
  }
  return values;
}

// Of the two neighbours the nearer, of two as near the one whose last bit is 0. Beyond the largest
// bf16 the next would be 2^128, which is infinity.
Bf16 nearest(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const auto below = static_cast<Bf16>(bits >> 16), above = static_cast<Bf16>(below + 1);
  const auto value = [](Bf16 b) {
    const double there = from_bf16(b);
    return std::isinf(there) ? std::copysign(0x1p128, there) : there;
  };
  const double down = std::abs(double{x} - value(below)), up = std::abs(value(above) - double{x});
  if (down == up) return below % 2 == 0 ? below : above;
  return down < up ? below : above;
}

BOOST_AUTO_TEST_SUITE(bf16)

BOOST_AUTO_TEST_CASE(is_the_nearest) {
  const std::vector<float> values = floats();
  std::vector<Bf16> converted(values.size());
  loops::convert(std::ssize(values), values.data(), converted.data());
  int wrong = 0;
  for (std::size_t k = 0; k < values.size(); ++k) {
    const Bf16 rounded = to_bf16(values[k]);
    wrong += converted[k] != rounded;
    if (std::isnan(values[k])) {
      wrong += !std::isnan(from_bf16(rounded));
    } else if (std::isinf(values[k])) {
      wrong += from_bf16(rounded) != values[k];
    } else {
      wrong += rounded != nearest(values[k]);
    }
  }
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
