// ptb_dist [train]: from the command line to trained parameters.
#include <optional>

#include "commands/commands.hpp"
#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/base/stop.hpp"
#include "ptb_dist/io/manifest.hpp"
#include "ptb_dist/run/checkpointer.hpp"
#include "ptb_dist/run/ending.hpp"
#include "ptb_dist/run/header.hpp"
#include "ptb_dist/run/inputs.hpp"
#include "ptb_dist/run/leftovers.hpp"
#include "ptb_dist/run/starting_parameters.hpp"
#include "ptb_dist/run/time_limit.hpp"

namespace ptb {
namespace {

ExitCode train(Session& session, const CommandLine& line, const Factories& factories,
               std::optional<RunFolder>& folder) {
  // 1. The machine.
  const Config& config = line.config.values;
  const bool is_dry = line.action == CommandLine::Action::dry_run;
  check_resume_is_there(session, line);
  Machine machine = make_machine(session, config, factories);
  if (!is_dry) {
    for (std::string& text : remove_leftovers(session)) machine.lines.push_back(std::move(text));
  }
  Backend& backend = *machine.backend;

  // 2. The text, the checkpoint to resume from, and the plan that follows from them.
  const bool is_compared = !line.resume.empty() || !config.init_from.empty();
  const Corpus corpus =
      agreed_corpus(session, config, is_compared ? ExcessWords::keep : ExcessWords::refuse);
  const RunIdentity identity = identity_of_run(session, machine, corpus, config);
  session.on_root([&] { folder.emplace(line); });
  std::optional<Restart> restart = find_restart(session, line, identity);
  session.on_root([&] { check_words_fit(corpus, config); });
  Plan plan;
  session.on_every_rank([&] {
    plan = make_plan(config, corpus, session.size(), backend, restart ? restart->global_lanes : 0);
  });
  if (restart) check_place(restart->progress, plan, restart->is_other_text);
  Header header;
  session.on_root([&] {
    header = header_of(line.config, corpus, plan, machine);
    if (!is_dry) return;
    for (const std::string& text : dry_run_lines(header, restart)) print_line(text);
  });
  if (is_dry) return ExitCode::done;

  // 3. The model, and all memory.
  std::optional<Parameters> parameters;
  std::optional<Replica> replica;
  session.on_every_rank([&] { parameters.emplace(backend, plan.model); });
  if (restart) {
    set_parameters(session, restart->file, backend, *parameters);
  } else {
    set_initial_parameters(session, config, corpus, backend, *parameters);
  }
  session.on_every_rank([&] {
    replica.emplace(ReplicaParts{.config = config,
                                 .work = plan,
                                 .corpus = corpus,
                                 .communicator = *machine.communicator,
                                 .backend = backend,
                                 .parameters = *parameters,
                                 .rank = session.rank()});
    if (restart) replica->set_state(restart->state);
  });

  // 4. The run: from here on it leaves files on the disk.
  Report report;
  std::optional<SavePlace> place;
  session.on_root([&] {
    report = folder->open(restart ? &*restart->file : nullptr, identity.real);
    say_header(report, header, *folder, restart, line);
    add_to_manifest(folder->directory(),
                    {.generation = folder->directory().generation(),
                     .command = line.arguments,
                     .hosts = machine.hosts,
                     .exact_class = identity.exact_class,
                     .resumed_from = restart ? restart->file->path().string() : "",
                     .corpus = identity.corpus,
                     .corpus_source = identity.corpus_source});
    place = save_place(folder->directory(), identity, config, plan, report);
  });
  const Progress from = restart ? restart->progress : Progress{};
  restart.reset();  // frees the bytes of the file
  Faults faults(line.faults, session.rank());
  Checkpointer checkpointer(session, backend, *parameters, report, faults, std::move(place));
  Trainer trainer({.config = config,
                   .work = plan,
                   .backend = backend,
                   .replica = *replica,
                   .report = report,
                   .saver = checkpointer,
                   .faults = faults,
                   .perplexity_bound = corpus.perplexity_bound.value_or(0),
                   .peak_flops = machine.peak_flops},
                  from);
  std::optional<TimeLimit> time_limit;
  session.on_root([&] {
    time_limit.emplace(
        time_limits_of(line),
        [&] { return trainer.longest_window() + checkpointer.longest_save(); }, request_stop);
  });
  return train_to_the_end({.session = session,
                           .folder = folder,
                           .backend = backend,
                           .parameters = *parameters,
                           .report = report,
                           .saver = checkpointer},
                          trainer, line.max_windows, config.save_parameters);
}

}  // namespace

int train_command(Session& session, const CommandLine& line, const Factories& factories) {
  std::optional<RunFolder> folder;  // of rank 0
  try {
    return static_cast<int>(train(session, line, factories, folder));
  } catch (...) {
    if (folder) folder->fails(error_in_flight().code());
    throw;
  }
}

}  // namespace ptb
