// The command line: ptb_dist [train] | config, with a flag for every key of the configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"

namespace ptb {

struct CommandLine {
  enum class Action {
    train,
    dry_run,     // say what would run, and stop
    config,      // print the resolved configuration
    print_text,  // --help, --version: print `text`
  };
  Action action = Action::train;
  std::string text{};
  ResolvedConfig config{};
  // Stop after this many windows of the run; never stored in a configuration.
  std::optional<std::int64_t> max_windows{};
};

// `arguments` without the program's name; `version_text` is what --version prints. Error 2 with one
// line per complaint.
CommandLine parse_command_line(const std::vector<std::string>& arguments,
                               const std::string& version_text);

}  // namespace ptb
