// Perplexity of a split, the work shared by the ranks.
//
// Validation: `eval_lanes` lanes in windows of num_steps, lanes dealt to the ranks. Test: one
// continuous lane to the last token. There every rank runs the recurrence, which is short and
// cannot be shared, and each rank the softmax of its share of the positions, which is most of the
// work.
#pragma once

#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/model/language_model.hpp"

namespace ptb {

// Steps of a test window. The split is one lane, cut only for the sake of memory and of products of
// a useful height: the length does not change the result.
inline constexpr int kTestSteps = 512;

class Evaluator {
 public:
  enum class Sharing { lanes, positions };

  // Sharing::lanes deals the lanes to the ranks, Sharing::positions the softmax of every window.
  // All arguments must outlive the evaluator.
  Evaluator(Backend& backend, LanguageModel& model, Session& session, Communicator& communicator,
            const ModelShape& shape, const Lanes& lanes, Sharing sharing, const char* split);

  // Starts from a zero state; the same number on every rank.
  Perplexity run();

 private:
  PositionRange positions_of(int positions) const;

  Backend& backend_;
  LanguageModel& model_;
  Communicator& communicator_;
  const Lanes& lanes_;
  const char* split_;
  int rank_;
  int ranks_;
  Sharing sharing_;
  LaneSlice slice_;
  Window window_;
  Batch batch_;
  RecurrentState state_;
  Workspace workspace_;
  Tensor loss_;  // [1] f64
};

}  // namespace ptb
