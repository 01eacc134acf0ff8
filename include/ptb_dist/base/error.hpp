// Errors that end the program, and its exit codes.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptb {

// What a launcher or a batch script sees. Stable: README, "Stop and restart".
enum class ExitCode : int {
  done = 0,
  different = 1,      // of `checkpoint diff` alone: the files differ
  usage = 2,          // command line, configuration, or ranks that do not match
  bad_data = 65,      // corpus, checkpoint or parameter file
  missing = 69,       // a backend, device, library or memory that is not there
  internal = 70,      // a defect, or a lost peer
  io = 74,            // disk full, read-only, ...
  stopped = 75,       // on request, with a checkpoint: start again with --resume
  diverged = 76,      // the loss or the gradient norm is not finite
  interrupted = 130,  // asked twice to stop: at once, without a checkpoint
};

// One line for the user: what failed, where (file, line, key, rank), why, and what to do about it.
// Empty members are left out of the line.
struct Complaint {
  std::string what{};
  std::string where{};
  std::string why{};
  std::string remedy{};

  // "<what>: <where>: <why>; <remedy>"; control characters are escaped, so it is always one line.
  std::string line() const;
};

// Thrown for everything that must end the run with a message; caught once, in program.cpp.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, Complaint complaint);
  // Several complaints found in one pass (a configuration file with three wrong keys). Not empty.
  Error(ExitCode code, std::vector<Complaint> complaints);

  ExitCode code() const { return code_; }
  // One line per complaint, without the "ptb_dist: error:" prefix.
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  ExitCode code_;
  std::vector<std::string> lines_;
};

// Printable form of bytes from outside: control characters and invalid UTF-8 become \xNN, and a
// text longer than `limit` bytes is cut with "...".
std::string escaped(std::string_view text, std::size_t limit = 200);

// The whole text without control characters, so that it is one line and cannot control a terminal.
// Every printed or logged line goes through it, because it may quote any name. A second time
// changes nothing.
std::string one_line(std::string_view text);

// Bytes of the UTF-8 character that `text` begins with, 1 to 4; 0 if there is none (overlong forms,
// surrogates and anything above U+10FFFF are not UTF-8).
std::size_t utf8_length(std::string_view text);

// "did you mean \"seed\"?" for the name with the smallest edit distance; empty if none is near.
std::string did_you_mean(std::string_view given, const std::vector<std::string>& names);

// Ends the run with 70 and the caller's file and line when an invariant of our own is broken.
void require(bool holds, const char* invariant,
             std::source_location where = std::source_location::current());

}  // namespace ptb
