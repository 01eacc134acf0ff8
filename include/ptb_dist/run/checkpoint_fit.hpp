// Whether a checkpoint fits the corpus and the model of a run. Only root calls these.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// Error 65 if `words`, the corpus' vocabulary, is not the checkpoint's. Messages call the corpus
// `source`.
void check_vocabulary(const CheckpointFile& file, const std::vector<std::string>& words,
                      const std::string& source);

// The same for the vocabulary; also error 65 if the text differs, unless it may (--override data).
void check_corpus(const CheckpointFile& file, const CorpusIdentity& now, const std::string& source,
                  bool may_differ);

// Whether a run can start from the checkpoint's parameters (--init-from). With another vocabulary
// or forget_bias they would mean something else: error 65 for other words, 2 for another cell or
// forget_bias.
void check_model(const CheckpointFile& file, const Config& config, const Corpus& corpus);

}  // namespace ptb
