#include "base/flags.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <optional>
#include <regex>
#include <sstream>
#include <system_error>
#include <utility>

namespace ptb {
namespace {

// The last text of a flag; nothing if the flag was not given. A text that is a flag is no value.
std::optional<std::string> last_text(const std::vector<std::string>& texts, const std::string& flag,
                                     std::vector<Complaint>& complaints) {
  if (texts.empty()) return std::nullopt;
  if (!texts.back().starts_with("--")) return texts.back();
  complaints.push_back(
      {.what = flag, .why = fmt::format("has no value, \"{}\" follows", escaped(texts.back()))});
  return std::nullopt;
}

std::optional<std::int64_t> parse_max_windows(const std::string& text,
                                              std::vector<Complaint>& complaints) {
  std::int64_t windows = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, windows);
  if (result.ec == std::errc() && result.ptr == end && windows > 0) return windows;
  complaints.push_back({.what = "--max-windows",
                        .why = fmt::format("\"{}\" is not a number of windows", escaped(text)),
                        .remedy = fmt::format("give an integer from 1 to {}",
                                              std::numeric_limits<std::int64_t>::max())});
  return std::nullopt;
}

// "90s", "55m", "1.5h". from_chars of floating-point numbers would take "inf" and hexadecimal ones.
std::optional<StopAfter> parse_stop_after(const std::string& text,
                                          std::vector<Complaint>& complaints) {
  static const std::regex kPattern(R"((\d{1,9}(?:\.\d{1,9})?)([smh]))");
  std::smatch parts;
  if (std::regex_match(text, parts, kPattern)) {
    const char unit = *parts[2].first;
    const double seconds = std::stod(parts[1]) * (unit == 'h' ? 3600 : unit == 'm' ? 60 : 1);
    if (seconds > 0) return StopAfter{.seconds = seconds, .text = text};
  }
  complaints.push_back(
      {.what = "--stop-after",
       .why = fmt::format("\"{}\" is not a duration", escaped(text)),
       .remedy = "give a number above 0 with its unit, s, m or h: 90s, 55m, 1.5h"});
  return std::nullopt;
}

// The keys and faults that all occurrences of --override and --inject name.
void read_lists(CommandLine& line, const Flags& flags, std::vector<Complaint>& complaints) {
  for (const std::string& list : flags.overridden) {
    std::istringstream names(list);
    for (std::string name; std::getline(names, name, ',');) {
      std::ranges::replace(name, '-', '_');
      const auto key = std::ranges::find(config_schema(), name, &Key::name);
      const bool is_known = key != config_schema().end() && key->is_mathematical;
      if (name == "data" || (is_known && !key->is_shape)) {
        line.overridden.push_back(name);
        continue;
      }
      complaints.push_back(
          {.what = "--override",
           .why = is_known
                      ? fmt::format("the arrays of a checkpoint have the shape of {}", name)
                      : fmt::format("\"{}\" is not a key that a checkpoint has", escaped(name)),
           .remedy =
               "begin a new run; if the parameters fit, it can start from them with --init-from"});
    }
  }
  for (const std::string& text : flags.inject) {
    const std::optional<Fault> fault = parse_fault(text);
    if (fault) line.faults.push_back(*fault);
    if (fault) continue;
    complaints.push_back({.what = "--inject",
                          .why = fmt::format("\"{}\" is not a fault", escaped(text)),
                          .remedy = "give kind@rank:window[:phase], for example kill@1:50"});
  }
}

// Complains about flags for resuming that do not fit each other.
void check_restart(const CommandLine& line, std::vector<Complaint>& complaints) {
  const std::string& run_dir = line.config.values.run_dir;
  if (line.resume == "auto" && run_dir.empty()) {
    complaints.push_back({.what = "--resume auto",
                          .why = "there is no --run-dir to look for checkpoints in",
                          .remedy = "give the run directory, or a checkpoint: --resume FILE"});
  }
  if (line.is_fresh && (run_dir.empty() || !line.resume.empty())) {
    complaints.push_back(
        {.what = "--fresh",
         .why = run_dir.empty() ? "there is no --run-dir to start again in"
                                : "--resume says the opposite",
         .remedy = run_dir.empty() ? "give the run directory" : "give one of the two"});
  }
  if (!line.overridden.empty() && line.resume.empty()) {
    complaints.push_back({.what = "--override",
                          .why = "this run does not resume",
                          .remedy = "use it with --resume"});
  }
}

// The configuration of a run that resumes: in its run directory, else in that of the checkpoint.
// Empty if neither has one.
std::string config_of_run(const std::string& resume, const std::string& run_dir) {
  namespace fs = std::filesystem;
  std::vector<fs::path> folders;
  if (!run_dir.empty()) folders.emplace_back(run_dir);
  if (resume != "auto") folders.push_back(fs::path(resume).parent_path() / "..");
  std::error_code failure;
  for (const fs::path& folder : folders) {
    const fs::path file = (folder / "config.toml").lexically_normal();
    if (fs::is_regular_file(file, failure)) return fs::absolute(file, failure).string();
  }
  return "";
}

void read_eval(CommandLine& line, const Flags& flags, std::vector<Complaint>& complaints) {
  line.checkpoint = last_text(flags.checkpoint, "--checkpoint", complaints).value_or("");
  line.split = last_text(flags.split, "--split", complaints).value_or("test");
  const bool is_eval = line.action == CommandLine::Action::eval;
  const bool is_stopped = !flags.stop_after.empty();
  if (is_eval &&
      (flags.dry_run || is_stopped || !flags.max_windows.empty() || !flags.inject.empty())) {
    complaints.push_back({.what = flags.dry_run          ? "--dry-run"
                                  : is_stopped           ? "--stop-after"
                                  : flags.inject.empty() ? "--max-windows"
                                                         : "--inject",
                          .why = "is for training only",
                          .remedy = "omit it"});
  }
  if (is_eval && line.checkpoint.empty()) {
    complaints.push_back(
        {.what = "eval", .why = "no checkpoint is given", .remedy = "give --checkpoint FILE"});
  }
  if (!is_eval && !(flags.checkpoint.empty() && flags.split.empty())) {
    complaints.push_back({.what = flags.checkpoint.empty() ? "--split" : "--checkpoint",
                          .why = "is for the command eval only",
                          .remedy = "use ptb_dist eval, or --resume FILE to continue training"});
  }
  if (line.split != "valid" && line.split != "test") {
    complaints.push_back({.what = "--split",
                          .why = fmt::format("\"{}\" is not a choice", escaped(line.split)),
                          .remedy = "give one of valid, test"});
  }
}

void read_files(CommandLine& line, const Flags& flags, std::vector<Complaint>& complaints) {
  if (line.action != CommandLine::Action::checkpoint) return;
  line.files = flags.files;
  const std::string verb = line.files.empty() ? "" : line.files.front();
  const bool is_diff = verb == "diff";
  const bool is_known = is_diff || verb == "inspect" || verb == "verify";
  const bool has_files = is_diff ? line.files.size() == 3 : line.files.size() >= 2;
  if (is_known && has_files) return;
  complaints.push_back({.what = "checkpoint",
                        .why = !is_known ? fmt::format("\"{}\" is not a choice", escaped(verb))
                               : is_diff ? "diff compares two files"
                                         : fmt::format("{} needs a file", verb),
                        .remedy = "use checkpoint inspect|verify FILE... or checkpoint diff A B"});
}

}  // namespace

void read_flags(CommandLine& line, const Flags& flags, std::vector<Complaint>& complaints) {
  std::vector<std::pair<std::string, std::string>> overrides;
  std::string run_dir;
  for (std::size_t i = 0; i < flags.keys.size(); ++i) {
    const Key& key = config_schema()[i];
    const auto text = last_text(flags.keys[i], key.flag(), complaints);
    if (text) overrides.emplace_back(key.name, *text);
    if (text && key.name == "run_dir") run_dir = *text;
  }
  if (const auto text = last_text(flags.max_windows, "--max-windows", complaints)) {
    line.max_windows = parse_max_windows(*text, complaints);
  }
  if (const auto text = last_text(flags.stop_after, "--stop-after", complaints)) {
    line.stop_after = parse_stop_after(*text, complaints);
  }
  line.is_fresh = flags.fresh;
  read_lists(line, flags, complaints);
  read_eval(line, flags, complaints);
  read_files(line, flags, complaints);
  std::string name = last_text(flags.config, "--config", complaints).value_or("");
  line.resume = last_text(flags.resume, "--resume", complaints).value_or("");
  if (name.empty() && !line.resume.empty()) name = config_of_run(line.resume, run_dir);
  try {
    line.config = resolve_config(name.empty() ? "small" : name, overrides);
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    for (const std::string& text : error.lines()) complaints.push_back({.what = text});
    line.config.values.run_dir = run_dir;
  }
  check_restart(line, complaints);
}

}  // namespace ptb
