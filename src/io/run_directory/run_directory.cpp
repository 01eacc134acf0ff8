#include "ptb_dist/io/run_directory.hpp"

#include <fmt/format.h>

#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

#include "io/files/file.hpp"
#include "io/run_directory/json_api.hpp"
#include "io/run_directory/run_lock.hpp"
#include "ptb_dist/base/error.hpp"
#include "ptb_dist/io/manifest.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "run directory";
constexpr const char* kCheckpoints = "checkpoints";
constexpr std::array kMarksOfARun = {"config.toml", "metrics.jsonl", kCheckpoints};
// All files of a run, the checkpoints first: when they are moved, no run can resume from them,
// even if a kill interrupts the rest of the move.
constexpr std::array kFilesOfARun = {kCheckpoints, "metrics.jsonl", "manifest.json", "log.txt",
                                     "config.toml"};

// runs/<config>-<date>-<time>, with -2, -3, ... if several runs start within one second.
fs::path create_new(const std::string& config_name) {
  const fs::path parent = "runs";
  create_folders(kWhat, parent);
  const std::string name =
      fmt::format("{}-{:%Y%m%d-%H%M%S}", config_name, fmt::localtime(std::time(nullptr)));
  for (int number = 1;; ++number) {
    const fs::path path = parent / (number == 1 ? name : fmt::format("{}-{}", name, number));
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) throw io_error(kWhat, path, errno);
  }
}

fs::path create_at(const fs::path& path) {
  std::error_code failure;
  const bool is_found = fs::exists(path, failure);
  // create_directories would say "Not a directory" in both cases, which misleads the user.
  if (!is_found && is_there(path)) {
    throw Error(ExitCode::io, {.what = kWhat,
                               .where = path.string(),
                               .why = "is a symbolic link to nothing",
                               .remedy = "remove the link, or give another --run-dir"});
  }
  if (is_found && !fs::is_directory(path, failure)) {
    throw Error(ExitCode::io, {.what = kWhat,
                               .where = path.string(),
                               .why = "exists and is not a folder",
                               .remedy = "give another --run-dir"});
  }
  create_folders(kWhat, path);
  return path;
}

void check_holds_no_run(const fs::path& path) {
  for (const char* name : kMarksOfARun) {
    if (!is_there(path / name)) continue;
    throw Error(ExitCode::usage,
                {.what = kWhat,
                 .where = path.string(),
                 .why = fmt::format("already holds a run ({} exists)", name),
                 .remedy = "resume it with --resume auto, start again with --fresh, or give "
                           "another --run-dir"});
  }
}

// A new old-1, old-2, ...
fs::path create_old(const fs::path& path) {
  for (int number = 1;; ++number) {
    const fs::path old = path / fmt::format("old-{}", number);
    if (::mkdir(old.c_str(), 0777) == 0) return old;
    if (errno != EEXIST) throw io_error(kWhat, old, errno);
  }
}

// Returns one line that says what was moved where; empty if nothing was.
std::string move_run_away(const fs::path& path) {
  std::vector<std::string> moved;
  fs::path old;
  for (const char* name : kFilesOfARun) {
    if (!is_there(path / name)) continue;
    if (moved.empty()) old = create_old(path);
    if (::rename((path / name).c_str(), (old / name).c_str()) != 0) {
      throw io_error("cannot move the old run away", path / name, errno);
    }
    moved.push_back(name);
  }
  if (moved.empty()) return "";
  for (const fs::path& folder : {old, path}) {
    if (const int failure = sync_folder(folder); failure != 0) {
      throw io_error("cannot move the old run away", folder, failure);
    }
  }
  return fmt::format("{}: the old run is now in {} ({})", kWhat, escaped(old.string()),
                     fmt::join(moved, ", "));
}

int next_generation(const fs::path& path, const CheckpointFolder& checkpoints) {
  int next = recorded_attempts(path);
  for (const StoredCheckpoint& stored : checkpoints.list()) {
    next = std::max(next, stored.generation + 1);
  }
  return next;
}

// --- metrics.jsonl ---

// A missing number, or a value that is none, counts as the smallest: its record stays.
std::int64_t number_of(const Json& record, const char* name) {
  const auto found = record.find(name);
  return found != record.end() && found->is_number_integer() ? found->get<std::int64_t>() : -1;
}

bool will_be_written_again(const Json& record, std::int64_t step, int epoch) {
  const std::string kind = record.value("kind", Json()).is_string() ? record["kind"] : "";
  if (kind == "window" || kind == "progress") return number_of(record, "step") >= step;
  if (kind == "epoch") return number_of(record, "epoch") >= epoch;
  return kind == "test";
}

// The lines that stay, byte for byte. A kill can cut only the last line short. A line in the middle
// that is no record stays: another program may have written it.
std::string kept(std::string_view text, std::int64_t step, int epoch) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    const std::string_view whole = text.substr(0, end == text.npos ? end : end + 1);
    text.remove_prefix(whole.size());
    const Json record = Json::parse(line, nullptr, false);
    const bool is_cut_short =
        end == std::string_view::npos || (text.empty() && !record.is_object());
    if (is_cut_short) break;
    if (record.is_object() && will_be_written_again(record, step, epoch)) continue;
    result += whole;
  }
  return result;
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& path, const std::string& config_name, Purpose purpose)
    : path_(path.empty() ? create_new(config_name) : create_at(path)),
      lock_(lock_run_directory(path_, remarks_)) {
  if (purpose == Purpose::start) check_holds_no_run(path_);
  if (purpose == Purpose::start_again) {
    const std::string remark = move_run_away(path_);
    if (!remark.empty()) remarks_.push_back(remark);
  }
  remove_stale_temporaries(path_);
  generation_ = next_generation(path_, checkpoints());
}

bool RunDirectory::holds_a_run(const fs::path& path) {
  return std::ranges::any_of(kMarksOfARun, [&](const char* name) { return is_there(path / name); });
}

CheckpointFolder RunDirectory::checkpoints_of(const fs::path& path) {
  return CheckpointFolder(path / kCheckpoints);
}

void RunDirectory::keep(const ResolvedConfig& config) const {
  const std::string text = to_toml(config);
  replace_file(kWhat, file("config.toml"), std::as_bytes(std::span(text)));
}

void RunDirectory::cut_metrics(std::int64_t step, int epoch) const {
  const std::optional<std::string> text = read_text(kWhat, file("metrics.jsonl"));
  if (!text) return;
  const std::string rest = kept(*text, step, epoch);
  if (rest != *text) replace_file(kWhat, file("metrics.jsonl"), std::as_bytes(std::span(rest)));
}

}  // namespace ptb
