#include "ptb_dist/train/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>

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
      groups_(parts.backend, parts.shape, lanes, slices(),
              {.max_steps = lanes.num_steps(), .softmax_rows = softmax_rows()}),
      sums_(parts.backend, mine_.count) {}

// The lanes that this rank runs, by group.
std::vector<LaneSlice> Evaluator::slices() const {
  if (sharing_ == Sharing::positions) return {{0, lanes_.lanes(), lanes_.lanes()}};
  return groups_of_rank(lanes_.lanes(), parts_.groups, parts_.rank, parts_.ranks);
}

// Positions whose logits are needed at a time; 0: all (LaneGroups).
std::int64_t Evaluator::softmax_rows() const {
  if (sharing_ == Sharing::lanes) return 0;
  std::int64_t most = 0;
  for (const PositionRange& share : shares_of(lanes_.num_steps() * lanes_.lanes())) {
    most = std::max(most, share.count);
  }
  return std::max<std::int64_t>(most, 1);  // a rank may have no position, but 0 means all
}

// The positions of a window whose softmax a group needs: all, or a share for each group of this
// rank.
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
  groups_.begin_window({.window = index});
  const Tensor& losses = sums_.losses();
  std::int64_t place = 0;
  for (LaneGroup& group : groups_.groups()) {
    const std::vector<PositionRange> shares =
        shares_of(group.batch->num_steps() * group.lanes.count);
    parts_.model.evaluate(*group.batch, group.state, *group.workspace, shares,
                          losses.slice(place, std::ssize(shares)));
    place += std::ssize(shares);
  }
  for_each_addition(mine_.count, [&](int to, int from) {
    parts_.backend.add({.to = losses.slice(to, 1), .from = losses.slice(from, 1)});
  });
}

std::optional<Perplexity> Evaluator::run() {
  Perplexity result{
      .split = split_, .lanes = lanes_.lanes(), .predicted_tokens = lanes_.predicted_tokens()};
  groups_.reset_state();
  for (int index = 0; index < lanes_.windows(); ++index) {
    evaluate_window(index);
    sums_.set_requests(parts_.backend, {.stop = is_stop_requested()});
    const std::string what = fmt::format("the {} loss, window {}", split_, index);
    parts_.communicator.wait(
        parts_.communicator.all_reduce(sums_.sum(), parts_.backend.record(), what));
    const Arrival sum = parts_.backend.begin_download(sums_.sum());
    parts_.communicator.await(sum.event, what);
    const WindowSums::Values values = WindowSums::read(sum);
    if (values.requests.stop) return std::nullopt;
    result.cross_entropy += values.cross_entropy;
  }
  return result;
}

}  // namespace ptb
