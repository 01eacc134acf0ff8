// What a program is asked for and the text that it is given: rank 0 reads, the others are told.
// Collective, unless it says otherwise; errors are everyone's (AgreedError).
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"

namespace ptb {

// AgreedError 2 unless version, revision, compiler and MPI library are the same on every rank.
void require_same_build(Session& session);

// The command line of rank 0; what root alone needs (text, files, what to go on from) stays there.
CommandLine agreed_command_line(Session& session, const std::vector<std::string>& arguments);

// config.data, else $PTB_DATA, else data/ptb. Of this rank alone. Error 65 if there is none.
struct CorpusPlace {
  std::string place;  // a folder, or "synthetic"
  bool is_from_environment = false;
};
CorpusPlace corpus_place(const Config& config);
// What becomes of a corpus with more words than vocab_size: it is refused, or kept, so that its
// words can be compared with those of a checkpoint first. That gives a better message than their
// number.
enum class ExcessWords { refuse, keep };
// The corpus of rank 0, which alone decides on `excess`. The others have its tokens, and neither
// words nor source. Error 2 (synthetic) or 65 for more words than vocab_size.
Corpus agreed_corpus(Session& session, const Config& config,
                     ExcessWords excess = ExcessWords::refuse);
// The same errors, for a corpus that was kept; if there are parameters to start from that are a
// checkpoint's, its words are compared first. Of root alone.
void check_words_fit(const Corpus& corpus, const Config& config);

// The configuration as the run directory keeps it, which runs again anywhere: what the environment
// or the working folder said is spelt out, and its own folder is not in it. Of this rank alone.
ResolvedConfig repeatable(const ResolvedConfig& config);

}  // namespace ptb
