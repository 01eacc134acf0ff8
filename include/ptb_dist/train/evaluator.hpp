// Perplexity of a split; the ranks share the work.
//
// Validation: `eval_lanes` lanes in windows of num_steps, lanes dealt to the ranks. Test: one
// continuous lane to the last token. There every rank runs the recurrence, which is short and
// cannot be shared, and each rank the softmax of its share of the positions, which is most of the
// work.
#pragma once

#include <optional>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/model/language_model.hpp"
#include "ptb_dist/train/lane_groups.hpp"
#include "ptb_dist/train/window_sums.hpp"

namespace ptb {

// Steps of a test window. The split is one lane, cut only for the sake of memory and of products of
// a useful height: the length does not change the result.
inline constexpr int kTestSteps = 512;

// The two splits as they are evaluated: `eval_lanes` lanes in windows of num_steps, and one lane to
// the last token. They keep a view of the corpus. Error 65 if it is too short; `flags` is for its
// message.
Lanes valid_lanes(const Corpus& corpus, const Config& config,
                  const SplitFlags& flags = {.split = "valid"});
Lanes test_lanes(const Corpus& corpus);

// What an evaluator works with; all of it outlives it.
struct EvaluatorParts {
  Backend& backend;
  LanguageModel& model;
  Communicator& communicator;
  const ModelShape& shape;
  int groups;  // over all ranks, at least one for each
  int rank, ranks;
};

class Evaluator {
 public:
  // What is dealt to the groups of all ranks: lanes, or the softmax of every window's positions.
  enum class Sharing { lanes, positions };

  Evaluator(const EvaluatorParts& parts, const Lanes& lanes, Sharing sharing, const char* split);

  // Starts from a zero state; returns the same on every rank. Nothing if a signal asked any rank to
  // stop.
  std::optional<Perplexity> run();

 private:
  std::vector<LaneSlice> slices() const;
  std::int64_t softmax_rows() const;
  void evaluate_window(int index);
  std::vector<PositionRange> shares_of(int positions) const;

  EvaluatorParts parts_;
  const Lanes& lanes_;
  const char* split_;
  Sharing sharing_;
  LaneSlice mine_;     // the groups of this rank, of all
  LaneGroups groups_;  // with Sharing::positions one, of all lanes
  WindowSums sums_;    // a loss for each group; the first becomes their sum
};

}  // namespace ptb
