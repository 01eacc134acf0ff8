#include "ptb_dist/io/attempt.hpp"

#include <fmt/chrono.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <regex>
#include <span>

#include "io/files/file.hpp"

namespace ptb {
namespace {

constexpr const char* kWhat = "run directory";
constexpr std::array kStates = {"running", "finished", "max_windows", "stopped", "failed"};

bool is_attempt_of_a_job(const std::string& text) {
  static const std::regex kPattern(R"(\d{1,18}\.\d{1,9}\.\d{1,9})");
  return std::regex_match(text, kPattern);
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::string attempt_of_this_process() {
  const std::string restarts = variable("SLURM_RESTART_COUNT");
  for (const std::string& attempt :
       {variable("PTB_DIST_ATTEMPT"),
        fmt::format("{}.{}.0", variable("SLURM_JOB_ID"), restarts.empty() ? "0" : restarts)}) {
    if (is_attempt_of_a_job(attempt)) return attempt;
  }
  return fmt::format("{}:{}:{}", host_name(), ::getpid(), std::time(nullptr));
}

AttemptFile::AttemptFile(const RunDirectory& directory)
    : path_(directory.file(".attempt")),
      attempt_(attempt_of_this_process()),
      generation_(directory.generation()),
      since_(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))) {
  write(State::running, "-");
}

void AttemptFile::ends(State state, ExitCode code) const {
  const std::optional<std::string> text = read_text(kWhat, path_);
  if (!text || !text->starts_with(first_words())) return;
  write(state, fmt::to_string(static_cast<int>(code)));
}

void AttemptFile::fails(ExitCode code) const noexcept {
  try {
    ends(State::failed, code);
  } catch (...) {  // the next attempt finds this one running
  }
}

std::string AttemptFile::first_words() const {
  return fmt::format("{} generation={} ", attempt_, generation_);
}

void AttemptFile::write(State state, const std::string& code) const {
  const std::string text =
      fmt::format("{}host={} pid={} since={} state={} code={}\n", first_words(), host_name(),
                  ::getpid(), since_, kStates.at(static_cast<std::size_t>(state)), code);
  replace_file(kWhat, path_, std::as_bytes(std::span(text)));
}

}  // namespace ptb
