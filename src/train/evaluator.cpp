#include "ptb_dist/train/evaluator.hpp"

#include <fmt/format.h>

#include <array>
#include <span>

#include "ptb_dist/base/stop.hpp"

namespace ptb {
namespace {

LaneSlice lanes_of(const Lanes& lanes, Evaluator::Sharing sharing, int rank, int ranks) {
  return sharing == Evaluator::Sharing::lanes ? deal_lanes(lanes.lanes(), rank, ranks)
                                              : deal_lanes(lanes.lanes(), 0, 1);
}

}  // namespace

Lanes valid_lanes(const Corpus& corpus, const Config& config) {
  return Lanes(corpus.split(Split::valid), static_cast<int>(config.eval_lanes),
               static_cast<int>(config.num_steps), "valid");
}

Lanes test_lanes(const Corpus& corpus) {
  return Lanes(corpus.split(Split::test), 1, kTestSteps, "test", Remainder::keep);
}

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
      sums_(backend.allocate(ElementType::f64, {2})) {
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

std::optional<Perplexity> Evaluator::run() {
  Perplexity result{
      .split = split_, .lanes = lanes_.lanes(), .predicted_tokens = lanes_.predicted_tokens()};
  state_.reset(backend_);
  for (int index = 0; index < lanes_.windows(); ++index) {
    lanes_.fill(window_, index, slice_, false);
    batch_.load(backend_, window_);
    model_.evaluate(batch_, state_, workspace_, positions_of(window_.num_steps * slice_.count),
                    sums_.slice(0, 1));
    const double stop = is_stop_requested() ? 1.0 : 0.0;
    backend_.upload(sums_.slice(1, 1), std::as_bytes(std::span(&stop, 1)));
    communicator_.wait(communicator_.all_reduce(
        sums_, backend_.record(), fmt::format("the {} loss, window {}", split_, index)));
    std::array<double, 2> sums{};
    backend_.download(sums_, std::as_writable_bytes(std::span(sums)));
    if (sums[1] > 0) return std::nullopt;
    result.cross_entropy += sums[0];
  }
  return result;
}

}  // namespace ptb
