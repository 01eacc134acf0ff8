// The texts of the flags on the command line, and their meaning.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {

// The raw texts of the flags, in the order given; empty for a flag that was not given.
struct Flags {
  bool dry_run = false;
  bool fresh = false;
  std::vector<std::string> config;
  std::vector<std::string> max_windows;
  std::vector<std::string> stop_after;
  std::vector<std::string> resume;
  std::vector<std::string> overridden;
  std::vector<std::string> inject;
  std::vector<std::string> checkpoint;
  std::vector<std::string> split;
  std::vector<std::string> files;
  std::vector<std::vector<std::string>> keys;  // in the schema's order
};

// Fills `line` from the flags; its action is set already. Adds a complaint for each wrong flag.
void read_flags(CommandLine& line, const Flags& flags, std::vector<Complaint>& complaints);

}  // namespace ptb
