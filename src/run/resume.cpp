#include "ptb_dist/run/resume.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ptb_dist/io/run_directory.hpp"
#include "ptb_dist/run/checkpoint_fit.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

bool is_named(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// Whether checkpoint and run have different values of a mathematical key. With weak scaling
// batch_size does not count, because it is per rank: the run keeps the checkpoint's global batch.
bool differs(const Key& key, const Config& then, const Config& now) {
  const bool is_free = !key.is_mathematical || (key.name == "batch_size" && now.scaling == "weak");
  return !is_free && toml_value(then, key) != toml_value(now, key);
}

void check_configuration(const CheckpointFile& file, const CommandLine& line) {
  const Config& then = file.info().config;
  const Config& now = line.config.values;
  std::vector<Complaint> complaints;
  for (const Key& key : config_schema()) {
    if (!differs(key, then, now) || is_named(line.overridden, key.name)) continue;
    const std::string value = toml_value(then, key);
    complaints.push_back(
        {.what = key.name,
         .where = file.path().string(),
         .why = fmt::format("the checkpoint has {}, this run has {}", value, toml_value(now, key)),
         .remedy = key.is_shape ? fmt::format("give {} {}", key.flag(), value)
                                : fmt::format("give {} {}, or allow it with --override {}",
                                              key.flag(), value, key.name)});
  }
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
}

// Those of the keys that may differ which do differ.
std::vector<std::string> changed_keys(const CheckpointFile& file, const CommandLine& line,
                                      bool is_other_text) {
  std::vector<std::string> changed;
  for (const Key& key : config_schema()) {
    if (differs(key, file.info().config, line.config.values)) changed.push_back(key.name);
  }
  if (is_other_text) changed.emplace_back("data");
  return changed;
}

// If only best.h5 is left, a fresh start would overwrite it.
void check_nothing_is_left(const CheckpointFolder& folder) {
  std::error_code failure;
  if (!fs::exists(folder.best(), failure)) return;
  throw Error(ExitCode::bad_data,
              {.what = "no checkpoint but the best one",
               .where = folder.best().string(),
               .why = "the newer ones are missing",
               .remedy = fmt::format("resume from it with --resume {}, or start again with --fresh",
                                     folder.best().string())});
}

// The newest good checkpoint. Newer ones that are bad become warnings; if none is good, an error.
std::optional<CheckpointFile> newest_good(const CheckpointFolder& folder,
                                          std::vector<std::string>& warnings) {
  std::vector<Complaint> complaints;
  std::optional<CheckpointFile> found;
  for (const StoredCheckpoint& stored : folder.list()) {
    try {
      found.emplace(stored.path);
      break;
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data && error.code() != ExitCode::io) throw;
      for (const std::string& text : error.lines()) complaints.push_back({.what = text});
    }
  }
  if (!found && complaints.empty()) check_nothing_is_left(folder);
  if (!found && !complaints.empty()) {
    complaints.push_back({.what = "no usable checkpoint",
                          .where = folder.path().string(),
                          .why = "every one of them is bad, see above",
                          .remedy = "restore one from a backup, or start again with --fresh"});
    throw Error(ExitCode::bad_data, std::move(complaints));
  }
  for (const Complaint& complaint : complaints) {
    warnings.push_back(
        fmt::format("{}; resuming from {} instead", complaint.line(), found->path().string()));
  }
  return found;
}

// With a file of another run this run directory would get the records of two runs.
void check_is_of(const std::string& resume, const fs::path& directory) {
  std::error_code failure;
  if (directory.empty() || !RunDirectory::holds_a_run(directory)) return;
  const fs::path folder = fs::weakly_canonical(fs::path(resume).parent_path(), failure);
  const fs::path own =
      fs::weakly_canonical(RunDirectory::checkpoints_of(directory).path(), failure);
  if (folder == own || folder.parent_path() == own) return;  // it may have been set aside
  throw Error(ExitCode::usage,
              {.what = "--resume",
               .where = resume,
               .why = fmt::format("it does not belong to the run in {}", directory.string()),
               .remedy = "give another --run-dir, or one of its own checkpoints"});
}

// How the result will compare with that of an uninterrupted run.
std::string how_exactly(const CheckpointFile& file, const CommandLine& line,
                        const RunIdentity& run) {
  const std::vector<std::string> changed =
      changed_keys(file, line, file.info().corpus != run.corpus);
  if (!changed.empty()) {
    return fmt::format(
        "Resumed with settings that differ from the checkpoint's ({}): the result will not be that "
        "of the original run",
        fmt::join(changed, ", "));
  }
  const std::string difference = differences(run.exact_class, file.info().exact_class);
  if (difference.empty()) return "Resumed exactly: bit for bit as an uninterrupted run";
  return fmt::format(
      "Resumed, equal to an uninterrupted run up to rounding, because this one has {}",
      escaped(difference, 2000));
}

Restart judged(std::optional<CheckpointFile> file, const CommandLine& line,
               const RunIdentity& run) {
  check_configuration(*file, line);
  check_corpus(*file, run.corpus, run.corpus_source, is_named(line.overridden, "data"));
  Restart restart{.progress = file->info().progress,
                  .state = file->state(run.real),
                  .global_lanes = static_cast<int>(file->info().config.batch_size),
                  .is_other_text = file->info().corpus != run.corpus};
  restart.remarks.push_back(fmt::format("Resumed from {}: epoch {}, window {}, step {}",
                                        file->path().string(), restart.progress.epoch + 1,
                                        restart.progress.window, restart.progress.step));
  restart.remarks.push_back(how_exactly(*file, line, run));
  restart.file = std::move(file);
  return restart;
}

}  // namespace

void check_resume_is_there(Session& session, const CommandLine& line) {
  session.on_root([&] {
    if (!line.resume.empty() && line.resume != "auto") check_can_be_opened(line.resume);
  });
}

std::optional<Restart> find_restart(Session& session, const CommandLine& line,
                                    const RunIdentity& run) {
  std::optional<Restart> restart;
  session.on_root([&] {
    if (line.resume.empty()) return;
    std::vector<std::string> warnings;
    std::optional<CheckpointFile> file;
    const fs::path directory = line.config.values.run_dir;
    if (line.resume == "auto") {
      file = newest_good(RunDirectory::checkpoints_of(directory), warnings);
    } else {
      check_is_of(line.resume, directory);
      file.emplace(line.resume);
    }
    if (!file) return;
    restart = judged(std::move(file), line, run);
    restart->warnings = std::move(warnings);
  });
  bool is_there = restart.has_value();
  session.broadcast(is_there);
  if (!is_there) return std::nullopt;
  if (!restart) restart.emplace();
  session.broadcast(restart->progress);
  session.broadcast(restart->state);
  session.broadcast(restart->global_lanes);
  session.broadcast(restart->is_other_text);
  return restart;
}

void check_place(const Progress& progress, const Plan& plan, bool is_other_text) {
  const auto refuse = [](ExitCode code, const std::string& why, const std::string& remedy) {
    throw AgreedError(
        code, {.what = "the checkpoint does not fit this run", .why = why, .remedy = remedy});
  };
  const bool is_beyond =
      progress.epoch > plan.epochs || (progress.epoch == plan.epochs && progress.window > 0);
  if (is_beyond) {
    refuse(ExitCode::usage,
           fmt::format("it is in epoch {}, and the last epoch of this run is {}",
                       progress.epoch + 1, plan.epochs),
           "raise --epochs");
  }
  const std::int64_t step = std::int64_t{progress.epoch} * plan.windows_per_epoch + progress.window;
  if (progress.window > plan.windows_per_epoch || (step != progress.step && !is_other_text)) {
    refuse(ExitCode::bad_data,
           fmt::format("it says epoch {}, window {}, step {}; an epoch has {} windows here",
                       progress.epoch + 1, progress.window, progress.step, plan.windows_per_epoch),
           "give the checkpoint of a run on this text");
  }
}

}  // namespace ptb
