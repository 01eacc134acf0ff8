// From a split to windows: B parallel lanes through the text, cut into windows of T steps.
//
// n = tokens / B (integer); lane b is tokens [b·n, (b+1)·n). A window's input is x[t], its target
// x[t+1]: the last window of a lane must leave one token for the last target, hence (n - 1) / T
// windows. Lanes are contiguous text and stay whole on one rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

namespace ptb {

// Lanes first .. first + count - 1 of `global` lanes. count may be 0.
struct LaneSlice {
  int first = 0;
  int count = 0;
  int global = 0;

  static auto members(auto& self) {  // for base/archive.hpp
    auto& [first, count, global] = self;
    return std::tie(first, count, global);
  }
  bool operator==(const LaneSlice&) const = default;
};

// The part-th of `parts` contiguous shares of `global` lanes: it begins at lane
// part·⌊B/parts⌋ + min(part, B mod parts), so the first B mod parts shares have one lane more.
LaneSlice deal_lanes(int global, int part, int parts);

// What one rank needs of one window. Arrays are time-major, [T,B] with B = its own lanes.
struct Window {
  int num_steps = 0;                  // T
  LaneSlice lanes;                    // B = lanes.count
  std::vector<std::int32_t> inputs;   // [T,B]
  std::vector<std::int32_t> targets;  // [T,B] inputs of the next step
};

// Where each word occurs in a window's inputs: word u at positions[row_begin[u] .. row_begin[u+1]),
// each t·B + b, ascending; there may be none.
struct WordPositions {
  std::vector<std::int32_t> row_begin;  // [U+1]
  std::vector<std::int32_t> positions;  // [T·B]
};
// `words` [U] are ascending; every input is one of them.
WordPositions find_words(const Window& window, std::span<const std::int32_t> words);

// What happens to the tokens after the last full window of a lane: training and validation drop
// them; the test has one more, shorter window up to the last token.
enum class Remainder { drop, keep };

// The name of a split, and the flags that decide its lanes and steps. The message about a text that
// is too short names the flags that help.
struct SplitFlags {
  const char* split;            // "train"
  const char* lanes = nullptr;  // lowers the number of lanes; null: nothing does
  int lanes_per_unit = 1;       // lanes = the flag's value · this
  int fewest_lanes = 1;         // that the run can have
  const char* steps = nullptr;  // lowers num_steps; null: nothing does, or it would not help
};

// A split dealt into lanes. Keeps a view of the tokens: they must outlive it.
class Lanes {
 public:
  // Error 65 if there are too few tokens for one window. The message has the arithmetic, and the
  // largest value of each flag that works.
  Lanes(std::span<const std::int32_t> tokens, int lanes, int num_steps, const SplitFlags& flags,
        Remainder remainder = Remainder::drop);

  int lanes() const { return lanes_; }
  int num_steps() const { return num_steps_; }
  std::int64_t lane_length() const { return lane_length_; }
  // Windows in one pass over the split.
  int windows() const { return windows_; }
  // Tokens predicted in one pass, over all lanes.
  std::int64_t predicted_tokens() const;

  // Steps of a window: num_steps(), less in the last one of a split with Remainder::keep.
  int steps(int index) const;

  // Of the given slice; 0 <= index < windows().
  Window window(int index, LaneSlice slice) const;
  // The distinct inputs of all lanes, ascending.
  std::vector<std::int32_t> words(int index) const;

 private:
  // A window's tokens in one lane, [T+1]: its inputs and the last target.
  std::span<const std::int32_t> lane_text(int lane, int index) const;

  std::span<const std::int32_t> tokens_;
  int lanes_;
  int num_steps_;
  std::int64_t lane_length_;
  int windows_;
};

// The distinct words of each global window. The embedding's gradient has a row for each of them.
// Every rank finds them in the text, without communication.
class WindowWords {
 public:
  explicit WindowWords(const Lanes& lanes);

  // [U], ascending; 0 <= window < windows of the lanes.
  std::span<const std::int32_t> of(int window) const;
  // The largest U of any window.
  std::int64_t most() const;

 private:
  std::vector<std::int32_t> words_;  // of all windows, one after the other
  std::vector<std::size_t> ends_;    // of each window's in words_
};

}  // namespace ptb
