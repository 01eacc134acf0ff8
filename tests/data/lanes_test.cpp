// Windows: a rank trains on the right text, shifted by one, for every way of dealing lanes.
#define BOOST_TEST_MODULE data
#include "ptb_dist/data/lanes.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

using Ids = std::vector<std::int32_t>;

// Every token differs, so that a shift or a mix-up of lanes cannot hide.
Ids counting(int size) {
  Ids tokens(static_cast<std::size_t>(size));
  std::iota(tokens.begin(), tokens.end(), 100);
  return tokens;
}

// A text of few words, each of them many times (a linear congruence, upper bits).
Ids repetitive(int size, std::uint32_t words) {
  Ids tokens;
  for (std::uint32_t state = 1; static_cast<int>(tokens.size()) < size;) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back(static_cast<std::int32_t>((state >> 16) % words));
  }
  return tokens;
}

// Column `lane` of a [T,B] array.
Ids column(const Ids& array, const Window& window, int lane) {
  Ids result;
  for (int t = 0; t < window.num_steps; ++t) {
    result.push_back(array[static_cast<std::size_t>(t * window.lanes.count + lane)]);
  }
  return result;
}

Ids joined(Ids left, const Ids& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// Lane `lane` (global) over a whole pass: what the model saw, and what it was asked for.
std::pair<Ids, Ids> whole_lane(const Lanes& lanes, int lane, LaneSlice slice) {
  Ids inputs, targets;
  for (int w = 0; w < lanes.windows(); ++w) {
    const Window window = lanes.window(w, slice);
    inputs = joined(inputs, column(window.inputs, window, lane - slice.first));
    targets = joined(targets, column(window.targets, window, lane - slice.first));
  }
  return {inputs, targets};
}

BOOST_AUTO_TEST_CASE(targets_are_the_next_token_of_the_lane) {
  // 50 tokens in 4 lanes of 12 (2 left over); windows of 3: (12 - 1) / 3 = 3.
  const Ids tokens = counting(50);
  const Lanes lanes(tokens, 4, 3, {.split = "train"});
  BOOST_TEST(lanes.lane_length() == 12);
  BOOST_TEST(lanes.windows() == 3);
  BOOST_TEST(lanes.predicted_tokens() == 36);
  for (int lane = 0; lane < 4; ++lane) {
    const auto [inputs, targets] = whole_lane(lanes, lane, {.first = 0, .count = 4, .global = 4});
    const auto begin = tokens.begin() + lane * 12;
    BOOST_TEST(inputs == Ids(begin, begin + 9), boost::test_tools::per_element());
    BOOST_TEST(targets == Ids(begin + 1, begin + 10), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(last_target_of_a_window_is_the_first_input_of_the_next) {
  const Ids tokens = counting(101);
  const Lanes lanes(tokens, 5, 4, {.split = "train"});
  for (int w = 0; w + 1 < lanes.windows(); ++w) {
    const Window before = lanes.window(w, {.first = 0, .count = 5, .global = 5});
    const Window after = lanes.window(w + 1, {.first = 0, .count = 5, .global = 5});
    for (int lane = 0; lane < 5; ++lane) {
      BOOST_TEST(column(before.targets, before, lane).back() ==
                 column(after.inputs, after, lane).front());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_slice_holds_its_columns_of_the_whole) {
  const Ids tokens = repetitive(400, 17);
  const Lanes lanes(tokens, 7, 5, {.split = "train"});
  for (int parts = 1; parts <= 7; ++parts) {
    for (int part = 0; part < parts; ++part) {
      const LaneSlice slice = deal_lanes(7, part, parts);
      for (int lane = slice.first; lane < slice.first + slice.count; ++lane) {
        BOOST_TEST((whole_lane(lanes, lane, slice) ==
                    whole_lane(lanes, lane, {.first = 0, .count = 7, .global = 7})));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(lanes_are_dealt_contiguous_even_and_complete) {
  for (int global = 1; global <= 24; ++global) {
    for (int parts = 1; parts <= global + 3; ++parts) {  // more parts than lanes: evaluation
      int next = 0;
      for (int part = 0; part < parts; ++part) {
        const LaneSlice slice = deal_lanes(global, part, parts);
        BOOST_TEST(slice.first == next);
        BOOST_TEST(slice.count == global / parts + (part < global % parts ? 1 : 0));
        BOOST_TEST(slice.global == global);
        next += slice.count;
      }
      BOOST_TEST(next == global);
    }
  }
}

BOOST_AUTO_TEST_CASE(twenty_lanes_over_eight_ranks) {
  std::vector<int> counts;
  for (int rank = 0; rank < 8; ++rank) counts.push_back(deal_lanes(20, rank, 8).count);
  BOOST_TEST(counts == (std::vector<int>{3, 3, 3, 3, 2, 2, 2, 2}),
             boost::test_tools::per_element());
}

// The positions of the global window's words in a slice, found in the simplest way.
void check_words(const Lanes& lanes, int w, LaneSlice slice, std::span<const std::int32_t> words) {
  const Window window = lanes.window(w, slice);
  const Window whole = lanes.window(w, {.first = 0, .count = slice.global, .global = slice.global});
  std::map<std::int32_t, Ids> expected;
  for (const std::int32_t word : whole.inputs) expected[word];
  for (std::size_t i = 0; i < window.inputs.size(); ++i) {
    expected[window.inputs[i]].push_back(static_cast<std::int32_t>(i));
  }
  const WordPositions found = find_words(window, words);
  BOOST_REQUIRE(words.size() == expected.size());
  BOOST_REQUIRE(found.row_begin.size() == expected.size() + 1);
  BOOST_REQUIRE(found.positions.size() == window.inputs.size());
  std::size_t row = 0;
  for (const auto& [word, positions] : expected) {
    BOOST_TEST(words[row] == word);
    const auto begin = found.positions.begin() + found.row_begin[row];
    const auto end = found.positions.begin() + found.row_begin[row + 1];
    BOOST_TEST(Ids(begin, end) == positions, boost::test_tools::per_element());
    ++row;
  }
}

// More parts than lanes, too: a rank without lanes still knows the words.
BOOST_AUTO_TEST_CASE(words_are_those_of_the_global_window) {
  const Ids tokens = repetitive(2000, 40);
  const Lanes lanes(tokens, 6, 9, {.split = "train"});
  const WindowWords words(lanes);
  std::size_t most = 0;
  for (int w = 0; w < lanes.windows(); ++w) {
    for (const int parts : {1, 4, 8}) {
      for (int part = 0; part < parts; ++part) {
        check_words(lanes, w, deal_lanes(6, part, parts), words.of(w));
      }
    }
    most = std::max(most, words.of(w).size());
  }
  BOOST_TEST(static_cast<std::size_t>(words.most()) == most);
}

BOOST_AUTO_TEST_CASE(a_last_target_is_no_word_of_the_window) {
  const Ids tokens = {7, 7, 8, 9};
  const WindowWords words(Lanes(tokens, 1, 3, {.split = "train"}));
  BOOST_TEST(words.of(0) == (Ids{7, 8}), boost::test_tools::per_element());
  BOOST_TEST(words.most() == 2);
  BOOST_CHECK_THROW(words.of(1), Error);
}

BOOST_AUTO_TEST_CASE(a_kept_remainder_reads_to_the_last_token) {
  for (int size = 2; size <= 30; ++size) {
    const Ids tokens = counting(size);
    const Lanes lanes(tokens, 1, 7, {.split = "test"}, Remainder::keep);
    BOOST_TEST(lanes.predicted_tokens() == size - 1);
    BOOST_TEST(lanes.windows() == (size - 1 + 6) / 7);
    const auto [inputs, targets] = whole_lane(lanes, 0, {.first = 0, .count = 1, .global = 1});
    BOOST_TEST(inputs == Ids(tokens.begin(), tokens.end() - 1), boost::test_tools::per_element());
    BOOST_TEST(targets == Ids(tokens.begin() + 1, tokens.end()), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(sizes_of_the_penn_treebank) {
  struct Case {
    int tokens, num_lanes, num_steps;
    Remainder remainder;
    int windows, predicted;
  };
  const Case cases[] = {{929'589, 20, 20, Remainder::drop, 2323, 929'200},
                        {929'589, 20, 35, Remainder::drop, 1327, 928'900},
                        {73'760, 20, 20, Remainder::drop, 184, 73'600},
                        {73'760, 20, 35, Remainder::drop, 105, 73'500},
                        {82'430, 1, 20, Remainder::keep, 4122, 82'429},
                        {82'430, 1, 35, Remainder::keep, 2356, 82'429}};
  for (const Case& c : cases) {
    const Ids tokens = counting(c.tokens);
    const Lanes lanes(tokens, c.num_lanes, c.num_steps, {.split = "train"}, c.remainder);
    BOOST_TEST(lanes.windows() == c.windows);
    BOOST_TEST(lanes.predicted_tokens() == c.predicted);
  }
}

BOOST_AUTO_TEST_CASE(too_few_tokens_are_refused_with_the_arithmetic) {
  const Ids enough = counting(20 * 21);
  BOOST_TEST(Lanes(enough, 20, 20, {.split = "valid"}).windows() == 1);
  const Ids tokens = counting(20 * 21 - 1);
  BOOST_CHECK_EXCEPTION(Lanes(tokens, 20, 20, {.split = "valid"}), Error, [](const Error& error) {
    const std::string line = error.what();
    return error.code() == ExitCode::bad_data && line.find("valid") != std::string::npos &&
           line.find("419 tokens / 20 lanes = 20") != std::string::npos &&
           line.find("; give a longer text") != std::string::npos;
  });
  const auto remedy = [&](const SplitFlags& flags) {
    try {
      return std::to_string(Lanes(tokens, 20, 20, flags).windows());
    } catch (const Error& error) {
      const std::string line = error.what();
      return line.substr(line.find("; ") + 2);
    }
  };
  const std::string more = ", or give a longer text";
  BOOST_TEST(remedy({.split = "a", .lanes = "--l"}) == "lower --l to 19" + more);
  BOOST_TEST(remedy({.split = "a", .steps = "--s"}) == "lower --s to 19" + more);
  BOOST_TEST(remedy({.split = "a", .lanes = "--l", .steps = "--s"}) ==
             "lower --l to 19 or --s to 19" + more);
  BOOST_TEST(remedy({.split = "a", .lanes = "--l", .lanes_per_unit = 4}) ==
             "lower --l to 4" + more);
  BOOST_TEST(remedy({.split = "a", .lanes = "--l", .fewest_lanes = 20}) == "give a longer text");
  const Ids one = counting(1);
  BOOST_CHECK_THROW(Lanes(one, 1, 20, {.split = "test"}, Remainder::keep), Error);
  BOOST_CHECK_THROW(Lanes({}, 1, 20, {.split = "test"}, Remainder::keep), Error);
}

}  // namespace
}  // namespace ptb
