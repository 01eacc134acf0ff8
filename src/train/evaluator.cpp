#include "ptb_dist/train/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "ptb_dist/base/stop.hpp"

namespace ptb {

Lanes valid_lanes(const Corpus& corpus, const Config& config, const SplitFlags& flags) {
  return Lanes(corpus.split(Split::valid), static_cast<int>(config.eval_lanes),
               static_cast<int>(config.num_steps), flags);
}

Lanes test_lanes(const Corpus& corpus) {
  return Lanes(corpus.split(Split::test), 1, kTestSteps, {.split = "test"}, Remainder::keep);
}

Evaluator::Evaluator(const EvaluatorParts& parts, const Lanes& lanes, Sharing sharing,
                     const char* split)
    : parts_(parts),
      lanes_(lanes),
      split_(split),
      sharing_(sharing),
      mine_(deal_lanes(parts.groups, parts.rank, parts.ranks)),
      sums_(parts.backend.allocate(ElementType::f64, {1 + mine_.count})) {
  const std::vector<LaneSlice> slices =
      sharing == Sharing::lanes
          ? groups_of_rank(lanes.lanes(), parts.groups, parts.rank, parts.ranks)
          : std::vector{LaneSlice{0, lanes.lanes(), lanes.lanes()}};
  for (const LaneSlice& slice : slices) {
    std::int64_t most = 0;
    for (const PositionRange& share : shares_of(lanes.num_steps() * slice.count)) {
      most = std::max(most, share.count);
    }
    groups_.push_back(
        {.lanes = slice,
         .batch = Batch(parts.backend, lanes, slice),
         .state = RecurrentState(parts.backend, parts.shape, slice.count),
         .workspace = workspace_of(
             workspaces_, parts.backend, parts.shape,
             {.max_steps = lanes.num_steps(), .lanes = slice.count, .softmax_rows = most})});
  }
}

// The positions of a group's window whose softmax is wanted: all, or a share for each group that is
// this rank's.
std::vector<PositionRange> Evaluator::shares_of(int positions) const {
  if (sharing_ == Sharing::lanes) return {{0, positions}};
  std::vector<PositionRange> shares;
  for (int group = mine_.first; group < mine_.first + mine_.count; ++group) {
    const LaneSlice share = deal_lanes(positions, group, parts_.groups);
    shares.push_back({share.first, share.count});
  }
  return shares;
}

// The losses of this rank's groups, and their sum along the tree.
void Evaluator::evaluate_window(int index) {
  parts_.backend.set_step({.window = index});
  std::int64_t place = 1;
  for (LaneGroup& group : groups_) {
    group.batch.select(index);
    const std::vector<PositionRange> shares = shares_of(group.batch.num_steps * group.lanes.count);
    parts_.model.evaluate(group.batch, group.state, *group.workspace, shares,
                          sums_.slice(place, std::ssize(shares)));
    place += std::ssize(shares);
  }
  for_each_addition(mine_.count, [&](int to, int from) {
    parts_.backend.add({.to = sums_.slice(1 + to, 1), .from = sums_.slice(1 + from, 1)});
  });
}

std::optional<Perplexity> Evaluator::run() {
  Perplexity result{
      .split = split_, .lanes = lanes_.lanes(), .predicted_tokens = lanes_.predicted_tokens()};
  for (LaneGroup& group : groups_) group.state.reset(parts_.backend);
  for (int index = 0; index < lanes_.windows(); ++index) {
    evaluate_window(index);
    const double stop = is_stop_requested() ? 1.0 : 0.0;
    parts_.backend.upload(sums_.slice(0, 1), std::as_bytes(std::span(&stop, 1)));
    const Tensor sum = sums_.slice(0, 2);
    const std::string what = fmt::format("the {} loss, window {}", split_, index);
    parts_.communicator.wait(parts_.communicator.all_reduce(sum, parts_.backend.record(), what));
    parts_.communicator.await(parts_.backend.record(), what);
    std::array<double, 2> values{};
    parts_.backend.download(sum, std::as_writable_bytes(std::span(values)));
    if (values[0] > 0) return std::nullopt;
    result.cross_entropy += values[1];
  }
  return result;
}

}  // namespace ptb
