// The command line and the text: rank 0 reads them and sends them to the other ranks. Collective,
// unless a comment says otherwise; every rank throws the same error (AgreedError).
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"

namespace ptb {

// AgreedError 2 unless version, revision, compiler and MPI library are the same on every rank.
void require_same_build(Session& session);

// The command line of rank 0. What only root needs stays there: text, files, --resume.
CommandLine agreed_command_line(Session& session, const std::vector<std::string>& arguments);

// config.data, else $PTB_DATA, else data/ptb. Not collective. Error 65 if there is none.
struct CorpusPlace {
  std::string place;  // a folder, or "synthetic"
  bool is_from_environment = false;
};
CorpusPlace corpus_place(const Config& config);
// What happens to a corpus with more words than vocab_size: it is refused; or it is kept, so that
// its words can first be compared with a checkpoint's, which gives a better message.
enum class ExcessWords { refuse, keep };
// The corpus of rank 0; only its `excess` counts. The other ranks get the tokens, but neither words
// nor source. Error 2 (synthetic) or 65 for more words than vocab_size.
Corpus agreed_corpus(Session& session, const Config& config,
                     ExcessWords excess = ExcessWords::refuse);
// The same errors for a corpus that was kept. If config.init_from is a checkpoint, the words are
// compared with its words first. Only root calls it.
void check_words_fit(const Corpus& corpus, const Config& config);

// The configuration for the run directory. It works anywhere: what came from the environment or
// depends on the working folder is written out, and run_dir is left out. Not collective.
ResolvedConfig repeatable(const ResolvedConfig& config);

}  // namespace ptb
