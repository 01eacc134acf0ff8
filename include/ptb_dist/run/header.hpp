// The first lines of a log, which --dry-run prints, too: all that a reader needs to understand the
// numbers below them.
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

// Describes machine, configuration, corpus and plan. Only rank 0 can: it alone has the words.
Header header_of(const ResolvedConfig& config, const Corpus& corpus, const Plan& plan,
                 const Machine& machine);

// What --dry-run prints about a run that would resume from `restart`.
std::vector<std::string> dry_run_lines(const Header& header, const std::optional<Restart>& restart);

// What a run reports before its first window: the header, its folder, and where it resumes.
void say_header(Report& report, const Header& header, const RunFolder& folder,
                const std::optional<Restart>& restart, const CommandLine& line);

// Program and machine, every key of the configuration with its origin (a flag, the user's own
// file), the corpus, the plan. `machine` describes backend and communicator in one line.
std::vector<std::string> header_lines(const ResolvedConfig& config, const Corpus& corpus,
                                      const Plan& plan, const std::string& machine);

// Warnings about the text: lines that end twice. `corpus` is rank 0's.
std::vector<std::string> corpus_warnings(const Corpus& corpus);

}  // namespace ptb
