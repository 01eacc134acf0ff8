#include "ptb_dist/train/evaluator.hpp"

#include <fmt/format.h>

namespace ptb {
namespace {

LaneSlice lanes_of(const Lanes& lanes, Evaluator::Sharing sharing, int rank, int ranks) {
  return sharing == Evaluator::Sharing::lanes ? deal_lanes(lanes.lanes(), rank, ranks)
                                              : deal_lanes(lanes.lanes(), 0, 1);
}

}  // namespace

Evaluator::Evaluator(Backend& backend, LanguageModel& model, Session& session,
                     Communicator& communicator, const ModelShape& shape, const Lanes& lanes,
                     Sharing sharing, const char* split)
    : backend_(backend),
      model_(model),
      communicator_(communicator),
      lanes_(lanes),
      split_(split),
      rank_(session.rank()),
      ranks_(session.size()),
      sharing_(sharing),
      slice_(lanes_of(lanes, sharing, rank_, ranks_)),
      batch_(backend, lanes.num_steps(), slice_, 0),
      state_(backend, shape, slice_.count),
      loss_(backend.allocate(ElementType::f64, {1})) {
  const int largest = lanes.num_steps() * slice_.count;
  workspace_ = Workspace(backend, shape,
                         {.max_steps = lanes.num_steps(),
                          .lanes = slice_,
                          .softmax_rows = positions_of(largest).count});
}

// Positions whose softmax is this rank's, of a window with `positions` of its own lanes.
PositionRange Evaluator::positions_of(int positions) const {
  if (sharing_ == Sharing::lanes) return {0, positions};
  const LaneSlice share = deal_lanes(positions, rank_, ranks_);
  return {share.first, share.count};
}

Perplexity Evaluator::run() {
  Perplexity result{
      .split = split_, .lanes = lanes_.lanes(), .predicted_tokens = lanes_.predicted_tokens()};
  state_.reset(backend_);
  for (int index = 0; index < lanes_.windows(); ++index) {
    lanes_.fill(window_, index, slice_, false);
    batch_.load(backend_, window_);
    model_.evaluate(batch_, state_, workspace_, positions_of(window_.num_steps * slice_.count),
                    loss_);
    communicator_.wait(communicator_.all_reduce(
        loss_, backend_.record(), fmt::format("the {} loss, window {}", split_, index)));
    result.cross_entropy += download_scalar(backend_, loss_);
  }
  return result;
}

}  // namespace ptb
