#include "ptb_dist/run/run_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <system_error>

#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/run/inputs.hpp"

namespace ptb {
namespace {

std::optional<CheckpointFile> good_file(const std::filesystem::path& path) {
  try {
    return CheckpointFile(path);
  } catch (const Error&) {  // missing or bad
    return std::nullopt;
  }
}

// Whether the file can be the best of a run that has come to `progress`.
bool is_best_of(const Progress& progress, const CheckpointFile& file) {
  const Progress& then = file.info().progress;
  return then.window == 0 && then.epoch == progress.best_epoch() + 1 &&
         std::ranges::equal(then.history, std::span(progress.history).first(then.history.size()));
}

// After a kill between writing a checkpoint and best.h5, or if the run resumes from a file of
// another run, the best of its epochs is missing. It may be the checkpoint itself, or lie beside
// it.
void restore_best(const CheckpointFolder& folder, const CheckpointFile& from) {
  const Progress& progress = from.info().progress;
  if (is_best_of(progress, from)) return folder.write(folder.best(), from.image());
  const std::optional<CheckpointFile> beside = good_file(from.path().parent_path() / "best.h5");
  if (beside && is_best_of(progress, *beside)) folder.write(folder.best(), beside->image());
}

bool is_listed(const CheckpointFolder& folder, const std::filesystem::path& path) {
  return std::ranges::any_of(folder.list(), [&](const StoredCheckpoint& stored) {
    std::error_code failure;
    return std::filesystem::equivalent(stored.path, path, failure);
  });
}

}  // namespace

std::optional<CheckpointFile> best_of(const CheckpointFolder& folder, const Progress& progress) {
  std::optional<CheckpointFile> file = good_file(folder.best());
  if (file && !is_best_of(progress, *file)) file.reset();
  return file;
}

// Cuts the records last: without them the folder would not look like that of a run.
std::vector<std::string> clear_the_way(const RunDirectory& directory, const CheckpointFile* from) {
  if (from == nullptr) {
    directory.cut_metrics(0, 0);
    return {};
  }
  std::vector<std::string> remarks;
  const CheckpointFolder folder = directory.checkpoints();
  folder.prepare();
  const Progress& progress = from->info().progress;
  std::filesystem::path chosen = from->path();
  if (!is_listed(folder, chosen)) {  // of another run, the best, or one that was set aside
    chosen = folder.file(directory.generation(), progress.step);
    folder.write(chosen, from->image());
    remarks.push_back(fmt::format("Copied here to resume from: {}", chosen.string()));
  }
  const std::optional<CheckpointFile> best = good_file(folder.best());
  const bool best_is_newer = best && best->info().progress.step > progress.step;
  for (const auto& moved : folder.set_aside(chosen, best_is_newer)) {
    remarks.push_back(fmt::format("Set aside, because the run resumes from another checkpoint: {}",
                                  moved.string()));
  }
  if (progress.best_epoch() >= 0 && !(best && is_best_of(progress, *best))) {
    restore_best(folder, *from);
  }
  directory.cut_metrics(progress.step, progress.epoch);
  return remarks;
}

RunFolder::RunFolder(const CommandLine& line) : line_(line) {
  const std::string& path = line.config.values.run_dir;
  if (line.action == CommandLine::Action::dry_run) return;  // it must leave no file
  if (line.resume.empty() || path.empty() || !std::filesystem::exists(path)) return;
  lock(RunDirectory::Purpose::go_on);
}

void RunFolder::lock(RunDirectory::Purpose purpose) {
  directory_.emplace(line_.config.values.run_dir, line_.config.name, purpose);
  attempt_.emplace(*directory_);
}

void RunFolder::fails(ExitCode code) const noexcept {
  if (attempt_) attempt_->fails(code);
}

Report RunFolder::open(const CheckpointFile* from, ElementType real) {
  const ResolvedConfig& config = line_.config;
  if (!directory_) {
    lock(line_.is_fresh ? RunDirectory::Purpose::start_again : RunDirectory::Purpose::start);
  }
  remarks_ = clear_the_way(*directory_, from);
  // Before the folder counts as one that holds a run, so that the same command can be given again.
  const std::string& to_save = config.values.save_parameters;
  if (!to_save.empty()) check_can_save_parameters(to_save);
  directory_->keep(repeatable(config));
  return Report(*directory_, static_cast<int>(config.values.metrics_windows),
                real == ElementType::f64 ? 17 : 9, config.values.progress);
}

}  // namespace ptb
