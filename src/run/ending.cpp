#include "ptb_dist/run/ending.hpp"

#include <fmt/format.h>

#include "ptb_dist/base/units.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/run/starting_parameters.hpp"

namespace ptb {
namespace {

// This overwrites the final weights.
Trainer::End test_best(const TrainingParts& parts, Trainer& trainer) {
  const Progress& progress = trainer.progress();
  const int best = progress.best_epoch();
  if (best < 0) return Trainer::End::finished;
  if (best == progress.epoch - 1) {
    parts.report.line(fmt::format("Best epoch by validation: {}, the last", best + 1));
    return Trainer::End::finished;
  }
  std::optional<CheckpointFile> file;
  parts.session.on_root([&] {
    file = best_of(parts.folder->directory().checkpoints(), progress);
    if (file) return;
    parts.report.warning(fmt::format(
        "Best epoch by validation: {}; its weights are not in this run directory", best + 1));
  });
  bool is_there = file.has_value();
  parts.session.broadcast(is_there);
  if (!is_there) return Trainer::End::finished;
  set_parameters(parts.session, file, parts.backend, parts.parameters);
  return trainer.test("best", best);
}

// Nothing is freed during a run, so the use at its end is the peak. No rank has more lanes than
// rank 0. The driver counts the memory of all processes together.
void say_device_memory(Report& report, const Backend& backend) {
  const std::int64_t used = backend.device_bytes_in_use();
  if (used == 0) return;
  report.line(fmt::format("GPU memory: {} of {} were in use on rank 0's GPU, by all processes",
                          bytes_text(used), bytes_text(backend.device().memory)));
}

AttemptFile::State state_of(Trainer::End end) {
  switch (end) {
    case Trainer::End::finished:
      return AttemptFile::State::finished;
    case Trainer::End::at_max_windows:
      return AttemptFile::State::max_windows;
    case Trainer::End::stopped:
      break;
  }
  return AttemptFile::State::stopped;
}

}  // namespace

ExitCode train_to_the_end(const TrainingParts& parts, Trainer& trainer,
                          std::optional<std::int64_t> max_windows, const std::string& save_to) {
  try {
    Trainer::End end = trainer.run(max_windows);
    parts.saver.finish();
    parts.session.on_root([&] {
      if (end == Trainer::End::stopped || save_to.empty()) return;
      save_parameters(save_to, parts.backend, parts.parameters);
    });
    if (end == Trainer::End::finished) end = test_best(parts, trainer);
    say_device_memory(parts.report, parts.backend);
    const ExitCode code = end == Trainer::End::stopped ? ExitCode::stopped : ExitCode::done;
    parts.session.on_root([&] { parts.folder->attempt().ends(state_of(end), code); });
    return code;
  } catch (const Error& error) {
    for (const std::string& text : error.lines()) parts.report.error(text);
    throw;
  }
}

}  // namespace ptb
