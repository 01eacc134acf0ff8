// Perplexity of a split, the work shared by the ranks.
//
// Validation: `eval_lanes` lanes in windows of num_steps, lanes dealt to the ranks. Test: one
// continuous lane to the last token. There every rank runs the recurrence, which is short and
// cannot be shared, and each rank the softmax of its share of the positions, which is most of the
// work.
#pragma once

#include <optional>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/model/language_model.hpp"

namespace ptb {

// Steps of a test window. The split is one lane, cut only for the sake of memory and of products of
// a useful height: the length does not change the result.
inline constexpr int kTestSteps = 512;

// The two splits as they are evaluated: `eval_lanes` lanes in windows of num_steps, and one lane to
// the last token. They keep a view of the corpus. Error 65 if it is too short.
Lanes valid_lanes(const Corpus& corpus, const Config& config);
Lanes test_lanes(const Corpus& corpus);

class Evaluator {
 public:
  enum class Sharing { lanes, positions };

  // Sharing::lanes deals the lanes to the ranks, Sharing::positions the softmax of every window.
  // All arguments must outlive the evaluator.
  Evaluator(Backend& backend, LanguageModel& model, Session& session, Communicator& communicator,
            const ModelShape& shape, const Lanes& lanes, Sharing sharing, const char* split);

  // Starts from a zero state; the same number on every rank. Nothing if a signal asked any rank to
  // stop.
  std::optional<Perplexity> run();

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
  Tensor sums_;  // [2] f64: the loss, and how many ranks were asked to stop
};

}  // namespace ptb
