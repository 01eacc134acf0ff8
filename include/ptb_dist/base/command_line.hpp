// The command line: ptb_dist [train] | eval | checkpoint | config, with a flag for every key of the
// configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/fault.hpp"

namespace ptb {

// How long a launch may take.
struct StopAfter {
  double seconds = 0;
  std::string text{};  // as given: "55m"
};

struct CommandLine {
  enum class Action {
    train,
    dry_run,     // say what would run, and stop
    eval,        // perplexity of a checkpoint
    checkpoint,  // look into checkpoint files
    config,      // print the resolved configuration
    print_text,  // --help, --version: print `text`
  };
  Action action = Action::train;
  std::string text{};
  ResolvedConfig config{};

  // The members below belong to one launch and are never stored in a configuration.
  // Stop after this many windows of the run.
  std::optional<std::int64_t> max_windows{};
  // Of rank 0.
  std::optional<StopAfter> stop_after{};
  std::string resume{};  // "auto", a checkpoint's path, or empty: do not
  bool is_fresh = false;
  std::vector<std::string> overridden{};  // keys that may differ from the checkpoint's, and "data"
  std::vector<Fault> faults{};
  std::vector<std::string> arguments{};  // as given

  std::string checkpoint{};          // eval: the file
  std::string split = "test";        // eval: valid or test
  std::vector<std::string> files{};  // checkpoint: inspect, verify or diff, and then the files
};

// `arguments` without the program's name; `version_text` is what --version prints. A run that
// resumes without --config uses the config.toml of its run directory. Error 2 with one line per
// complaint.
CommandLine parse_command_line(const std::vector<std::string>& arguments,
                               const std::string& version_text);

}  // namespace ptb
