// What a run needs before its first window, and how all ranks come to have the same of it: rank 0
// reads, the others are told. Collective, unless it says otherwise; errors are everyone's
// (AgreedError).
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/model/parameters.hpp"

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

// From config.init_from, which rank 0 reads, else random by config.seed. A checkpoint must be of
// the corpus' vocabulary (65) and of the same forget_bias (2).
void set_initial_parameters(Session& session, const Config& config, const Corpus& corpus,
                            Backend& backend, Parameters& parameters);

// Root's parameters to every rank.
void share_parameters(Session& session, Backend& backend, Parameters& parameters);

// Keeps the configuration in the run directory and opens log and metrics; what is to be saved at
// the end may lie in it. From here on something of this run is on the disk. Of this rank alone.
Report begin_report(const ResolvedConfig& config, const RunDirectory& directory, ElementType real);

}  // namespace ptb
