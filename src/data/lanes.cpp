#include "ptb_dist/data/lanes.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

// "lower --batch-size to 240 or --num-steps to 3": each of the two is enough.
std::string remedy_for_short_split(std::int64_t tokens, int lanes, int shortest_lane,
                                   const SplitFlags& flags) {
  std::vector<std::string> ways;
  const std::int64_t value = tokens / shortest_lane / flags.lanes_per_unit;
  const bool is_allowed = value >= 1 && value * flags.lanes_per_unit >= flags.fewest_lanes;
  if (flags.lanes != nullptr && is_allowed) {
    ways.push_back(fmt::format("{} to {}", flags.lanes, value));
  }
  const std::int64_t steps = tokens / lanes - 1;
  if (flags.steps != nullptr && steps >= 1) {
    ways.push_back(fmt::format("{} to {}", flags.steps, steps));
  }
  return ways.empty() ? "give a longer text"
                      : fmt::format("lower {}, or give a longer text", fmt::join(ways, " or "));
}

[[noreturn]] void refuse_short_split(std::int64_t tokens, int lanes, int shortest_lane,
                                     const SplitFlags& flags) {
  throw Error(ExitCode::bad_data,
              {.what = "too few tokens",
               .where = fmt::format("{} split", flags.split),
               .why = fmt::format("{} token{} / {} lane{} = {} a lane, and one window needs {}",
                                  tokens, tokens == 1 ? "" : "s", lanes, lanes == 1 ? "" : "s",
                                  tokens / lanes, shortest_lane),
               .remedy = remedy_for_short_split(tokens, lanes, shortest_lane, flags)});
}

}  // namespace

LaneSlice deal_lanes(int global, int part, int parts) {
  require(global >= 0 && 0 <= part && part < parts, "0 <= part < parts");
  return {.first = part * (global / parts) + std::min(part, global % parts),
          .count = global / parts + (part < global % parts ? 1 : 0),
          .global = global};
}

Lanes::Lanes(std::span<const std::int32_t> tokens, int lanes, int num_steps,
             const SplitFlags& flags, Remainder remainder)
    : tokens_(tokens), lanes_(lanes), num_steps_(num_steps) {
  require(lanes >= 1 && num_steps >= 1, "at least one lane and one step");
  const auto size = static_cast<std::int64_t>(tokens.size());
  const int shortest_window = remainder == Remainder::keep ? 1 : num_steps;
  lane_length_ = size / lanes;
  if (lane_length_ <= shortest_window) {
    refuse_short_split(size, lanes, shortest_window + 1, flags);
  }
  const std::int64_t predicted = lane_length_ - 1;  // in a lane
  const std::int64_t windows =
      predicted / num_steps + (remainder == Remainder::keep && predicted % num_steps != 0 ? 1 : 0);
  require(windows <= std::numeric_limits<int>::max(), "windows fit an int");
  windows_ = static_cast<int>(windows);
}

int Lanes::steps(int index) const {
  const std::int64_t left = lane_length_ - 1 - static_cast<std::int64_t>(index) * num_steps_;
  return static_cast<int>(std::min<std::int64_t>(num_steps_, left));
}

std::int64_t Lanes::predicted_tokens() const {
  const std::int64_t full = static_cast<std::int64_t>(windows_ - 1) * num_steps_;
  return lanes_ * (full + steps(windows_ - 1));
}

std::span<const std::int32_t> Lanes::lane_text(int lane, int index) const {
  const std::int64_t begin = lane * lane_length_ + static_cast<std::int64_t>(index) * num_steps_;
  return tokens_.subspan(static_cast<std::size_t>(begin),
                         static_cast<std::size_t>(steps(index)) + 1);
}

Window Lanes::window(int index, LaneSlice slice) const {
  require(0 <= index && index < windows_, "0 <= index < windows()");
  require(slice.global == lanes_ && slice.first >= 0 && slice.count >= 0 &&
              slice.first + slice.count <= lanes_,
          "the slice is one of these lanes");
  Window window;
  window.num_steps = steps(index);
  window.lanes = slice;
  const auto width = static_cast<std::size_t>(slice.count);
  window.inputs.resize(static_cast<std::size_t>(window.num_steps) * width);
  window.targets.resize(window.inputs.size());
  for (std::size_t b = 0; b < width; ++b) {
    const auto text = lane_text(slice.first + static_cast<int>(b), index);
    for (std::size_t t = 0; t + 1 < text.size(); ++t) {
      window.inputs[t * width + b] = text[t];
      window.targets[t * width + b] = text[t + 1];
    }
  }
  return window;
}

std::vector<std::int32_t> Lanes::words(int index) const {
  std::vector<std::int32_t> words;
  for (int lane = 0; lane < lanes_; ++lane) {
    const auto text = lane_text(lane, index);
    words.insert(words.end(), text.begin(), text.end() - 1);
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

// A counting sort of the positions by their word.
WordPositions find_words(const Window& window, std::span<const std::int32_t> words) {
  std::vector<std::size_t> row_of;
  row_of.reserve(window.inputs.size());
  for (const std::int32_t id : window.inputs) {
    const auto word = std::lower_bound(words.begin(), words.end(), id);
    require(word != words.end() && *word == id, "every input is one of the words");
    row_of.push_back(static_cast<std::size_t>(word - words.begin()));
  }
  // The size of row u is counted in begin[u + 2], so after the sums begin[u + 1] is where row u
  // begins. Placing its positions then moves begin[u + 1] to the end of the row, as required.
  WordPositions result;
  std::vector<std::int32_t>& begin = result.row_begin;
  begin.assign(words.size() + 2, 0);
  for (const std::size_t row : row_of) ++begin[row + 2];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  result.positions.resize(row_of.size());
  for (std::size_t i = 0; i < row_of.size(); ++i) {
    result.positions[static_cast<std::size_t>(begin[row_of[i] + 1]++)] =
        static_cast<std::int32_t>(i);
  }
  begin.pop_back();
  return result;
}

WindowWords::WindowWords(const Lanes& lanes) {
  for (int index = 0; index < lanes.windows(); ++index) {
    const std::vector<std::int32_t> words = lanes.words(index);
    words_.insert(words_.end(), words.begin(), words.end());
    ends_.push_back(words_.size());
  }
}

std::span<const std::int32_t> WindowWords::of(int window) const {
  require(0 <= window && window < std::ssize(ends_), "0 <= window < windows of the lanes");
  const auto index = static_cast<std::size_t>(window);
  const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::span(words_).subspan(begin, ends_[index] - begin);
}

std::int64_t WindowWords::most() const {
  std::size_t most = 0;
  for (int window = 0; window < std::ssize(ends_); ++window)
    most = std::max(most, of(window).size());
  return static_cast<std::int64_t>(most);
}

}  // namespace ptb
