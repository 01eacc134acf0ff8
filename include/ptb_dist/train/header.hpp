// What a log begins with, and what --dry-run prints: everything that a reader needs in order to
// know what the numbers below it mean.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/train/plan.hpp"

namespace ptb {

// Program and machine, every key of the configuration with what a flag or the user's own file set,
// the corpus, the plan. `machine` describes backend and communicator in one line. The corpus is
// that of rank 0, which alone has its words.
std::vector<std::string> header_lines(const ResolvedConfig& config, const Corpus& corpus,
                                      const Plan& plan, const std::string& machine);

// What the user should be warned of about the text: lines that end twice. Of rank 0's corpus.
std::vector<std::string> corpus_warnings(const Corpus& corpus);

}  // namespace ptb
