// The numbers below are part of the checkpoint format: a change of them breaks every resume.
#include "ptb_dist/base/random.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <iomanip>
#include <limits>
#include <ostream>

namespace ptb {
namespace {

constexpr double kKeep = 0.35;  // the large configuration's

// As the dropout op decides, for unit `unit`.
bool is_kept(const DropoutPosition& at, std::uint32_t unit, double keep_prob,
             std::uint64_t seed = 1) {
  return dropout_words(seed, at, unit / 4)[unit % 4] < keep_threshold(keep_prob);
}

// |sum - n·p| in standard deviations of a binomial sum.
double sigmas(double sum, double n, double p) {
  return std::abs(sum - n * p) / std::sqrt(n * p * (1 - p));
}

void check_block(const RandomBlock& actual, const RandomBlock& expected) {
  for (std::size_t i = 0; i < 4; ++i) {
    BOOST_TEST(actual[i] == expected[i],
               "word " << i << ": 0x" << std::hex << actual[i] << " != 0x" << expected[i]);
  }
}

BOOST_AUTO_TEST_SUITE(random_numbers)

// Random123's own known answers (kat_vectors, philox4x32 with 10 rounds).
BOOST_AUTO_TEST_CASE(philox_gives_the_known_answers) {
  check_block(philox(0, {0, 0, 0, 0}), {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check_block(philox(0xffffffffffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}),
              {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check_block(philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
              {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

BOOST_AUTO_TEST_CASE(streams_are_packed_as_documented) {
  check_block(random_stream(0, Purpose::initialise, 0, 0),
              {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check_block(random_stream(7, Purpose::corpus, 3, 0x0123456789abcdef),
              philox(7, {0x89abcdef, 0x01234567, 3, 0x20000000}));
  check_block(random_stream(1, Purpose::initialise, 2, 5), philox(1, {5, 0, 2, 0}));
}

BOOST_AUTO_TEST_CASE(dropout_is_packed_as_documented) {
  const DropoutPosition at{.epoch = 0xfffff, .window = 6, .site = 0xff, .lane = 9, .time = 0xffff};
  check_block(dropout_words(3, at, 0xfffe), philox(3, {0xfffffffe, 9, 6, 0x1fffffff}));
  const DropoutPosition first{.epoch = 2, .window = 3, .site = 1, .lane = 4, .time = 5};
  check_block(dropout_words(1, first, 6), philox(1, {0x00050006, 4, 3, 0x10100002}));
}

BOOST_AUTO_TEST_CASE(pinned_words) {
  check_block(random_stream(1, Purpose::initialise, 0, 0),
              {0xe3e80670, 0xe50a0ebc, 0x95f222c0, 0xb615aa27});
  check_block(random_stream(1, Purpose::corpus, 0, 0),
              {0x35d95476, 0x98d32b88, 0x627814b2, 0x0d900dab});
  check_block(dropout_words(1, {.epoch = 0, .window = 0, .site = 0, .lane = 0, .time = 0}, 0),
              {0xed5cc65c, 0x7a705c0c, 0xb7420993, 0x94e54191});
  check_block(
      dropout_words(1, {.epoch = 12, .window = 1326, .site = 2, .lane = 19, .time = 34}, 374),
      {0x87e6d25f, 0xac851edb, 0xce2a00f0, 0xd20c711e});
}

BOOST_AUTO_TEST_CASE(keep_thresholds_are_pinned) {
  BOOST_TEST(keep_threshold(0.5) == 0x80000000u);
  BOOST_TEST(keep_threshold(0.35) == 1503238554u);  // 1503238553.6, to nearest
  BOOST_TEST(keep_threshold(1.0) == 0x100000000u);  // above every word
}

BOOST_AUTO_TEST_CASE(uniform_numbers_stay_below_one) {
  constexpr std::uint32_t kLast = std::numeric_limits<std::uint32_t>::max();
  BOOST_TEST(uniform_double(0) == 0.0);
  BOOST_TEST(uniform_double(1u << 31) == 0.5);
  BOOST_TEST(uniform_double(kLast) == 1.0 - std::ldexp(1.0, -32));
}

BOOST_AUTO_TEST_CASE(uniform_numbers_have_mean_and_variance) {
  constexpr int kQuads = 50'000;
  double sum = 0;
  double squares = 0;
  for (std::uint64_t quad = 0; quad < kQuads; ++quad) {
    for (const std::uint32_t word : random_stream(1, Purpose::initialise, 1, quad)) {
      const double u = uniform_double(word) - 0.5;
      sum += u;
      squares += u * u;
    }
  }
  const double n = 4.0 * kQuads;
  BOOST_TEST(std::abs(sum / n) < 5 * std::sqrt(1.0 / 12 / n));
  BOOST_TEST(std::abs(squares / n - 1.0 / 12) < 5 * std::sqrt(1.0 / 180 / n));
}

BOOST_AUTO_TEST_CASE(dropout_keeps_its_share) {
  for (const double keep : {0.35, 0.5, 0.9}) {
    double kept = 0;
    double n = 0;
    for (std::uint32_t lane = 0; lane < 20; ++lane) {
      for (std::uint32_t time = 0; time < 35; ++time) {
        const DropoutPosition at{.epoch = 3, .window = 77, .site = 1, .lane = lane, .time = time};
        for (std::uint32_t unit = 0; unit < 200; ++unit, ++n) kept += is_kept(at, unit, keep);
      }
    }
    BOOST_TEST(sigmas(kept, n, keep) < 5, "keep_prob " << keep << ": kept " << kept << " of " << n);
  }
}

BOOST_AUTO_TEST_CASE(no_dropout_keeps_all) {
  const DropoutPosition at{.epoch = 0, .window = 0, .site = 0, .lane = 0, .time = 0};
  for (std::uint32_t unit = 0; unit < 1000; ++unit) BOOST_TEST(is_kept(at, unit, 1.0));
}

// Two decisions that differ in one coordinate agree as often as independent ones. If the counter
// lacks a coordinate, they always agree.
BOOST_AUTO_TEST_CASE(neighbours_are_independent) {
  struct Step {
    const char* name;
    std::function<void(DropoutPosition&, std::uint32_t& unit, std::uint64_t& seed)> move;
  };
  const Step steps[] = {
      {"epoch", [](auto& at, auto&, auto&) { ++at.epoch; }},
      {"window", [](auto& at, auto&, auto&) { ++at.window; }},
      {"site", [](auto& at, auto&, auto&) { ++at.site; }},
      {"lane", [](auto& at, auto&, auto&) { ++at.lane; }},
      {"time", [](auto& at, auto&, auto&) { ++at.time; }},
      {"unit", [](auto&, auto& unit, auto&) { ++unit; }},
      {"quad", [](auto&, auto& unit, auto&) { unit += 4; }},
      {"seed", [](auto&, auto&, auto& seed) { ++seed; }},
      {"seed, high word", [](auto&, auto&, auto& seed) { seed += 1ull << 32; }},
  };
  for (const Step& step : steps) {
    double equal = 0;
    double n = 0;
    for (std::uint32_t i = 0; i < 200; ++i) {
      for (std::uint32_t j = 0; j < 200; ++j, ++n) {
        const DropoutPosition here{
            .epoch = 1, .window = 2 * i, .site = 0, .lane = 2 * (i % 10), .time = 2 * (j % 17)};
        DropoutPosition there = here;
        std::uint32_t unit = 8 * j;
        std::uint64_t seed = 1;
        step.move(there, unit, seed);
        equal += is_kept(here, 8 * j, kKeep) == is_kept(there, unit, kKeep, seed);
      }
    }
    const double chance = kKeep * kKeep + (1 - kKeep) * (1 - kKeep);
    BOOST_TEST(sigmas(equal, n, chance) < 5, step.name << ": " << equal << " of " << n << " agree");
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
