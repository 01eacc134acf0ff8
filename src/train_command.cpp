// ptb_dist [train]: from the command line to trained parameters.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "commands.hpp"
#include "ptb_dist/base/units.hpp"
#include "ptb_dist/io/manifest.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/io/run_directory.hpp"
#include "ptb_dist/train/header.hpp"
#include "ptb_dist/train/restart.hpp"
#include "ptb_dist/train/setup.hpp"
#include "ptb_dist/train/trainer.hpp"

namespace ptb {
namespace {

// From what a run begins.
struct Start {
  std::optional<RunDirectory> directory{};  // of rank 0: here already where a run goes on in it
  std::optional<Restart> restart{};
  RunIdentity identity{};
};

void print_plan(const std::vector<std::string>& header, std::vector<std::string> warnings,
                const std::optional<Restart>& restart) {
  for (const std::string& line : header) print_line(line);
  if (restart) {
    for (const std::string& line : restart->remarks) print_line(line);
    warnings.insert(warnings.end(), restart->warnings.begin(), restart->warnings.end());
  }
  for (const std::string& line : warnings) print_line(fmt::format("warning: {}", line));
}

// A folder that a run is to go on in is locked before its checkpoints are read.
Start find_start(Session& session, const CommandLine& line, const Machine& machine,
                 const Corpus& corpus) {
  Start start;
  start.identity.exact_class =
      exact_class_of(session, {.backend = machine.backend->identity(),
                               .communicator = machine.communicator->name(),
                               .threads = machine.threads,
                               .lane_groups = static_cast<int>(line.config.values.lane_groups)});
  start.identity.real = machine.backend->real_type();
  const std::string& path = line.config.values.run_dir;
  session.on_root([&] {
    start.identity.corpus = identity_of(corpus);
    start.identity.corpus_source = corpus.source;
    if (line.action == CommandLine::Action::dry_run) return;  // it leaves no trace
    if (line.resume.empty() || path.empty() || !std::filesystem::exists(path)) return;
    start.directory.emplace(path, line.config.name, RunDirectory::Purpose::go_on);
  });
  start.restart = find_restart(session, line, start.identity);
  return start;
}

// Any other folder is made only when all else is well.
void make_directory(const CommandLine& line, Start& start) {
  if (start.directory) return;
  const auto purpose =
      line.is_fresh ? RunDirectory::Purpose::start_again : RunDirectory::Purpose::start;
  start.directory.emplace(line.config.values.run_dir, line.config.name, purpose);
}

std::optional<CheckpointFile> good_file(const std::filesystem::path& path) {
  try {
    return CheckpointFile(path);
  } catch (const Error&) {  // not there, or of no use to anyone
    return std::nullopt;
  }
}

// Whether best.h5 could be this file, for a run that stands at `progress`.
bool is_best_of(const Progress& progress, const CheckpointFile& file) {
  const Progress& then = file.info().progress;
  return then.window == 0 && then.epoch == progress.best_epoch() + 1 &&
         std::ranges::equal(then.history, std::span(progress.history).first(then.history.size()));
}

// A kill between a checkpoint and best.h5, or a branch from another run, leaves the run without the
// best of its epochs: it may be the checkpoint itself, or lie beside it.
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

// What stands in the way of the part that is about to be run again. A kill at any moment leaves a
// folder that the run can go on from: records go last.
std::vector<std::string> clear_the_way(const RunDirectory& directory,
                                       const std::optional<Restart>& restart) {
  if (!restart) {
    directory.cut_metrics(0, 0);
    return {};
  }
  std::vector<std::string> remarks;
  const CheckpointFile& file = *restart->file;
  const CheckpointFolder folder = directory.checkpoints();
  folder.prepare();
  std::filesystem::path chosen = file.path();
  if (!is_listed(folder, chosen)) {  // of another run, the best, or one that was set aside
    chosen = folder.file(directory.generation(), restart->progress.step);
    folder.write(chosen, file.image());
    remarks.push_back(fmt::format("Copied to go on from: {}", chosen.string()));
  }
  const Progress& from = restart->progress;
  const std::optional<CheckpointFile> best = good_file(folder.best());
  const bool best_is_newer = best && best->info().progress.step > from.step;
  for (const auto& moved : folder.set_aside(chosen, best_is_newer)) {
    remarks.push_back(
        fmt::format("Set aside, since the run goes on along another path: {}", moved.string()));
  }
  if (from.best_epoch() >= 0 && !(best && is_best_of(from, *best))) restore_best(folder, file);
  directory.cut_metrics(from.step, from.epoch);
  return remarks;
}

void say_start(Report& report, const CommandLine& line, const Start& start) {
  report.line(fmt::format("Run directory: {}", start.directory->path().string()));
  for (const std::string& text : start.directory->remarks()) report.line(text);
  if (start.restart) {
    for (const std::string& text : start.restart->warnings) report.warning(text);
    for (const std::string& text : start.restart->remarks) report.line(text);
  } else if (line.resume == "auto") {
    report.line("Resume: no checkpoint in the run directory, a fresh start");
  }
  for (const Fault& fault : line.faults) {
    report.warning(
        fmt::format("a fault is injected on request: {}; this is a drill", fault.text()));
  }
}

void warn_of_little_room(Report& report, const CheckpointFolder& folder, const Plan& plan) {
  const std::int64_t free = folder.free_bytes();
  if (free >= 2 * plan.checkpoint_bytes) return;
  report.warning(fmt::format("{}: a checkpoint has about {}, and {} are free on that disk",
                             folder.path().string(), bytes_text(plan.checkpoint_bytes),
                             bytes_text(free)));
}

// Of rank 0: from here on something of this run is on the disk.
void begin(const CommandLine& line, const TrainerParts& parts, Start& start,
           const std::vector<std::string>& header, const std::vector<std::string>& warnings,
           const std::vector<std::string>& hosts) {
  const Config& config = parts.config;
  Report& report = parts.report;
  make_directory(line, start);
  const RunDirectory& directory = *start.directory;
  const std::vector<std::string> moved = clear_the_way(directory, start.restart);
  report = begin_report(line.config, directory, start.identity.real);
  for (const std::string& text : header) report.line(text);
  for (const std::string& text : warnings) report.warning(text);
  say_start(report, line, start);
  for (const std::string& text : moved) report.line(text);
  add_to_manifest(directory,
                  {.generation = directory.generation(),
                   .command = line.arguments,
                   .hosts = hosts,
                   .exact_class = start.identity.exact_class,
                   .resumed_from = start.restart ? start.restart->file->path().string() : "",
                   .corpus = start.identity.corpus,
                   .corpus_source = start.identity.corpus_source});
  CheckpointInfo info;
  info.config = mathematical(config);
  info.config.batch_size = parts.plan.global_lanes;
  info.corpus = start.identity.corpus;
  info.exact_class = start.identity.exact_class;
  info.real = start.identity.real;
  const auto keep = static_cast<int>(config.keep_checkpoints);
  parts.checkpointer.begin({.folder = directory.checkpoints(),
                            .generation = directory.generation(),
                            .keep = keep,
                            .minutes = keep > 0 ? config.checkpoint_minutes : 0,
                            .info = std::move(info)});
  if (keep > 0) warn_of_little_room(report, directory.checkpoints(), parts.plan);
}

// Tells the test perplexity of best.h5 beside that of the last weights, which are lost thereby.
Trainer::End test_best(const TrainerParts& parts, Trainer& trainer, const Start& start) {
  const Progress& progress = trainer.progress();
  const int best = progress.best_epoch();
  if (best < 0) return Trainer::End::finished;
  if (best == progress.epoch - 1) {
    parts.report.line(fmt::format("Best epoch by validation: {}, the last", best + 1));
    return Trainer::End::finished;
  }
  std::optional<CheckpointFile> file;
  parts.session.on_root([&] {
    file = good_file(start.directory->checkpoints().best());
    if (file && is_best_of(progress, *file)) return;
    file.reset();
    parts.report.warning(fmt::format(
        "Best epoch by validation: {}; its weights are not in this run directory", best + 1));
  });
  bool is_there = file.has_value();
  broadcast_value(parts.session, is_there);
  if (!is_there) return Trainer::End::finished;
  load_parameters(parts.session, file, parts.backend, parts.parameters);
  return trainer.test_best();
}

// All that a run takes it keeps, so at its end this is the most. Rank 0 has as many lanes as any. The
// driver tells what all processes have together.
void say_device_memory(Report& report, const Backend& backend) {
  const std::int64_t used = backend.device_bytes_in_use();
  if (used == 0) return;
  report.line(fmt::format("GPU memory: {} of {} were in use on rank 0's GPU, by all processes",
                          bytes_text(used), bytes_text(backend.device().memory)));
}

ExitCode train(const CommandLine& line, const TrainerParts& parts, Trainer& trainer,
               const Start& start) {
  const std::string& to_save = parts.config.save_parameters;
  try {
    Trainer::End end = trainer.run(line.max_windows);
    parts.checkpointer.finish();
    parts.session.on_root([&] {
      if (end == Trainer::End::stopped || to_save.empty()) return;
      save_parameters(to_save, parts.backend, parts.parameters);
    });
    if (end == Trainer::End::finished) end = test_best(parts, trainer, start);
    say_device_memory(parts.report, parts.backend);
    return end == Trainer::End::stopped ? ExitCode::stopped : ExitCode::done;
  } catch (const Error& error) {
    for (const std::string& text : error.lines()) parts.report.error(text);
    throw;
  }
}

}  // namespace

int train_command(Session& session, const CommandLine& line, const Factories& factories) {
  // 1. The machine.
  const Config& config = line.config.values;
  const bool is_dry = line.action == CommandLine::Action::dry_run;
  check_resume_is_there(session, line);
  const Machine machine = make_machine(session, config, factories);
  Backend& backend = *machine.backend;

  // 2. The text, the checkpoint to go on from, and what follows from all of this.
  const bool is_compared = !line.resume.empty() || !config.init_from.empty();
  const Corpus corpus =
      agreed_corpus(session, config, is_compared ? ExcessWords::keep : ExcessWords::refuse);
  Start start = find_start(session, line, machine, corpus);
  session.on_root([&] { check_words_fit(corpus, config); });
  Plan plan;
  session.on_every_rank([&] {
    plan = make_plan(config, corpus, session.size(), backend,
                     start.restart ? start.restart->global_lanes : 0);
  });
  if (start.restart) check_place(start.restart->progress, plan, start.restart->is_other_text);
  std::vector<std::string> header, warnings;
  session.on_root([&] {
    header = header_lines(
        line.config, corpus, plan,
        fmt::format("{}, all-reduce: {}", backend.description(), machine.communicator->name()));
    header.insert(header.begin() + 1, machine.seats.begin(), machine.seats.end());
    warnings = machine.warnings;
    for (std::string& text : corpus_warnings(corpus)) warnings.push_back(std::move(text));
    for (std::string& text : plan.warnings(config, machine.ranks_on_a_gpu)) {
      warnings.push_back(std::move(text));
    }
    if (is_dry) print_plan(header, warnings, start.restart);
  });
  if (is_dry) return 0;

  // 3. The model, and all memory.
  std::optional<Parameters> parameters;
  session.on_every_rank([&] { parameters.emplace(backend, plan.model); });
  if (start.restart) {
    load_parameters(session, start.restart->file, backend, *parameters);
  } else {
    set_initial_parameters(session, config, corpus, backend, *parameters);
  }
  Report report;  // silent; on rank 0 until all is well
  Faults faults(line.faults, session.rank());
  Checkpointer checkpointer(session, backend, *parameters, report, faults);
  const TrainerParts parts = {.config = config,
                              .plan = plan,
                              .corpus = corpus,
                              .session = session,
                              .communicator = *machine.communicator,
                              .backend = backend,
                              .parameters = *parameters,
                              .report = report,
                              .checkpointer = checkpointer,
                              .faults = faults,
                              .peak_flops = machine.peak_flops};
  std::optional<Trainer> trainer;
  session.on_every_rank([&] { trainer.emplace(parts); });
  if (start.restart) trainer->go_on(start.restart->progress, start.restart->state);

  // 4. The run.
  session.on_root([&] { begin(line, parts, start, header, warnings, machine.hosts); });
  start.restart.reset();  // the file's bytes
  return static_cast<int>(train(line, parts, *trainer, start));
}

}  // namespace ptb
