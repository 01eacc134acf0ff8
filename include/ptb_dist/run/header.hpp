// What a log begins with, and what --dry-run prints: everything that a reader needs in order to
// know what the numbers below it mean.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/run/machine.hpp"
#include "ptb_dist/run/plan.hpp"
#include "ptb_dist/run/resume.hpp"
#include "ptb_dist/run/run_folder.hpp"

namespace ptb {

struct Header {
  std::vector<std::string> lines, warnings;
};

// Of machine, configuration, corpus and plan. Of rank 0 alone, which has the corpus' words.
Header header_of(const ResolvedConfig& config, const Corpus& corpus, const Plan& plan,
                 const Machine& machine);

// What --dry-run prints of a run that would go on from `restart`.
std::vector<std::string> dry_run_lines(const Header& header, const std::optional<Restart>& restart);

// What a run says before its first window: the header, its folder, and from where it goes on.
void say_header(Report& report, const Header& header, const RunFolder& folder,
                const std::optional<Restart>& restart, const CommandLine& line);

// Program and machine, every key of the configuration with what a flag or the user's own file set,
// the corpus, the plan. `machine` describes backend and communicator in one line.
std::vector<std::string> header_lines(const ResolvedConfig& config, const Corpus& corpus,
                                      const Plan& plan, const std::string& machine);

// What the user should be warned of about the text: lines that end twice. Of rank 0's corpus.
std::vector<std::string> corpus_warnings(const Corpus& corpus);

}  // namespace ptb
