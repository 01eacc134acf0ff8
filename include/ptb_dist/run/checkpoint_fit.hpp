// Whether a checkpoint is of the corpus and the model that a run has. All of root alone.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// Error 65 if these words, of the corpus that messages call `source`, are not the checkpoint's.
void check_vocabulary(const CheckpointFile& file, const std::vector<std::string>& words,
                      const std::string& source);

// The same; and error 65 if the text is another one, unless it may be (--override data).
void check_corpus(const CheckpointFile& file, const CorpusIdentity& now, const std::string& source,
                  bool may_differ);

// Whether parameters of the checkpoint are of use as --init-from: error 65 for other words, 2 for
// another cell or forget_bias.
void check_model(const CheckpointFile& file, const Config& config, const Corpus& corpus);

}  // namespace ptb
