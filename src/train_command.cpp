// ptb_dist [train]: from the command line to trained parameters.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "commands.hpp"
#include "ptb_dist/base/stop.hpp"
#include "ptb_dist/io/manifest.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/io/run_directory.hpp"
#include "ptb_dist/train/header.hpp"
#include "ptb_dist/train/restart.hpp"
#include "ptb_dist/train/setup.hpp"
#include "ptb_dist/train/trainer.hpp"

namespace ptb {
namespace {

void print_plan(const std::vector<std::string>& header, const std::vector<std::string>& warnings) {
  for (const std::string& line : header) print(line + '\n');
  for (const std::string& line : warnings) print(fmt::format("warning: {}\n", line));
}

// From what a run begins.
struct Start {
  std::optional<RunDirectory> directory{};  // of rank 0: here already where a run goes on in it
  std::optional<Restart> restart{};
  ExactClass exact_class{};  // of rank 0
};

// A folder that a run is to go on in is locked before its checkpoints are read.
Start find_start(Session& session, const CommandLine& line, const Machine& machine,
                 const Corpus& corpus) {
  Start start;
  start.exact_class =
      exact_class_of(session, {.backend = machine.backend->identity(),
                               .communicator = machine.communicator->name(),
                               .threads = machine.threads,
                               .lane_groups = static_cast<int>(line.config.values.lane_groups)});
  if (line.action == CommandLine::Action::dry_run) return start;
  const std::string& path = line.config.values.run_dir;
  session.on_root([&] {
    if (line.resume.empty() || path.empty() || !std::filesystem::exists(path)) return;
    start.directory.emplace(path, line.config.name, RunDirectory::Purpose::go_on);
  });
  start.restart = find_restart(
      session, line, start.directory,
      {.corpus = corpus, .exact_class = start.exact_class, .real = machine.backend->real_type()});
  return start;
}

// Any other folder is made only when all else is well.
void make_directory(const CommandLine& line, Start& start) {
  if (start.directory) return;
  const auto purpose =
      line.is_fresh ? RunDirectory::Purpose::start_again : RunDirectory::Purpose::start;
  start.directory.emplace(line.config.values.run_dir, line.config.name, purpose);
}

bool is_beyond(const std::filesystem::path& checkpoint, std::int64_t step) {
  try {
    return CheckpointFile(checkpoint).info().progress.step > step;
  } catch (const Error&) {  // not there, or of no use to anyone
    return false;
  }
}

// What stands in the way of the part that is about to be run again.
std::vector<std::string> clear_the_way(const RunDirectory& directory,
                                       const std::optional<Restart>& restart) {
  const Progress from = restart ? restart->progress : Progress{};
  directory.cut_metrics(from.step, from.epoch);
  if (!restart) return {};
  const CheckpointFolder folder = directory.checkpoints();
  folder.prepare();
  std::vector<std::string> remarks;
  const CheckpointFile& file = *restart->file;
  const std::vector<StoredCheckpoint> own = folder.list();
  const bool is_own = std::ranges::any_of(own, [&](const StoredCheckpoint& stored) {
    std::error_code failure;
    return std::filesystem::equivalent(stored.path, file.path(), failure);
  });
  if (!is_own) {
    // Else a kill before the first save would leave nothing to go on from.
    folder.write(folder.file(directory.generation(), from.step), file.image());
    return {fmt::format("Copied into the run directory: {}", file.path().string())};
  }
  for (const auto& moved : folder.set_aside(file.path(), is_beyond(folder.best(), from.step))) {
    remarks.push_back(
        fmt::format("Set aside, since the run goes on along another path: {}", moved.string()));
  }
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

// What a checkpoint of this run says beside its tensors; its progress is that of each save.
CheckpointInfo info_of(const CommandLine& line, const Plan& plan, const Corpus& corpus,
                       const Start& start, ElementType real) {
  CheckpointInfo info{.config = mathematical(line.config.values),
                      .corpus = identity_of(corpus),
                      .exact_class = start.exact_class,
                      .real = real};
  info.config.batch_size = plan.global_lanes;
  return info;
}

// Tells the test perplexity of best.h5 beside that of the last weights, which are lost thereby.
Trainer::End test_best(Session& session, Backend& backend, Parameters& parameters, Trainer& trainer,
                       Report& report, const std::optional<RunDirectory>& directory) {
  const Progress& progress = trainer.progress();
  const int best = progress.best_epoch();
  if (best < 0) return Trainer::End::finished;
  if (best == progress.epoch - 1) {
    report.line(fmt::format("Best epoch by validation: {}, the last", best + 1));
    return Trainer::End::finished;
  }
  std::optional<CheckpointFile> file;
  session.on_root([&] {
    try {
      file.emplace(directory->checkpoints().best());
      if (file->info().progress.epoch == best + 1) return;
      file.reset();
      report.warning("best.h5 is of another epoch than the best of this run");
    } catch (const Error& error) {
      for (const std::string& text : error.lines()) report.warning(text);
    }
  });
  bool is_there = file.has_value();
  broadcast_value(session, is_there);
  if (!is_there) return Trainer::End::finished;
  load_parameters(session, file, backend, parameters);
  return trainer.test_best() ? Trainer::End::finished : Trainer::End::stopped;
}

}  // namespace

int train_command(Session& session, const CommandLine& line, const Factories& factories) {
  // 1. The machine.
  const Config& config = line.config.values;
  const bool is_dry = line.action == CommandLine::Action::dry_run;
  if (!is_dry) catch_stop_signals();
  const Machine machine = make_machine(session, config, factories);
  Backend& backend = *machine.backend;

  // 2. The text, the checkpoint to go on from, and what follows from all of this.
  const Corpus corpus = agreed_corpus(session, config);
  Start start = find_start(session, line, machine, corpus);
  Plan plan;
  session.on_every_rank([&] {
    plan = make_plan(config, corpus, session.size(), size_of(backend.real_type()),
                     start.restart ? start.restart->global_lanes : 0);
  });
  std::vector<std::string> header;
  session.on_root([&] {
    header = header_lines(
        line.config, corpus, plan,
        fmt::format("{}, all-reduce: {}", backend.description(), machine.communicator->name()));
    if (is_dry) print_plan(header, plan.warnings(config));
  });
  if (is_dry) return 0;

  // 3. The model, and all memory.
  std::optional<Parameters> parameters;
  session.on_every_rank([&] { parameters.emplace(backend, plan.model); });
  if (start.restart) {
    load_parameters(session, start.restart->file, backend, *parameters);
  } else {
    set_initial_parameters(session, config, backend, *parameters);
  }
  Report report;  // silent; on rank 0 until all is well
  Faults faults(line.faults, session.rank());
  Checkpointer checkpointer(session, backend, *parameters, report, faults);
  std::optional<Trainer> trainer;
  session.on_every_rank([&] {
    trainer.emplace(TrainerParts{.config = config,
                                 .plan = plan,
                                 .corpus = corpus,
                                 .session = session,
                                 .communicator = *machine.communicator,
                                 .backend = backend,
                                 .parameters = *parameters,
                                 .report = report,
                                 .checkpointer = checkpointer,
                                 .faults = faults});
  });
  if (start.restart) trainer->go_on(start.restart->progress, start.restart->state);

  // 4. From here on something of this run is on the disk.
  const std::vector<std::string> hosts = session.gather(session.host());
  session.on_root([&] {
    make_directory(line, start);
    const std::vector<std::string> moved = clear_the_way(*start.directory, start.restart);
    report = begin_report(line.config, *start.directory, backend.real_type());
    for (const std::string& text : header) report.line(text);
    for (const std::string& text : plan.warnings(config)) report.warning(text);
    say_start(report, line, start);
    for (const std::string& text : moved) report.line(text);
    CheckpointInfo info = info_of(line, plan, corpus, start, backend.real_type());
    add_to_manifest(*start.directory,
                    {.generation = start.directory->generation(),
                     .command = line.arguments,
                     .hosts = hosts,
                     .exact_class = start.exact_class,
                     .resumed_from = start.restart ? start.restart->file->path().string() : "",
                     .corpus = info.corpus,
                     .corpus_source = corpus.source});
    checkpointer.begin({.folder = start.directory->checkpoints(),
                        .generation = start.directory->generation(),
                        .keep = static_cast<int>(config.keep_checkpoints),
                        .minutes = config.checkpoint_minutes,
                        .info = std::move(info)});
  });
  start.restart.reset();  // the file's bytes

  // 5. The run.
  try {
    Trainer::End end = trainer->run(line.max_windows);
    checkpointer.finish();
    session.on_root([&] {
      if (end == Trainer::End::stopped || config.save_parameters.empty()) return;
      save_parameters(config.save_parameters, backend, *parameters);
    });
    if (end == Trainer::End::finished) {
      end = test_best(session, backend, *parameters, *trainer, report, start.directory);
    }
    return static_cast<int>(end == Trainer::End::stopped ? ExitCode::stopped : ExitCode::done);
  } catch (const Error& error) {
    for (const std::string& text : error.lines()) report.error(text);
    throw;
  }
}

}  // namespace ptb
