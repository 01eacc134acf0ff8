// Training and what follows the last window: saving the parameters, testing the best epoch, the
// last lines of the log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/run/run_folder.hpp"
#include "ptb_dist/train/trainer.hpp"

namespace ptb {

// What it works with.
struct TrainingParts {
  Session& session;
  const std::optional<RunFolder>& folder;  // of rank 0; null on the others
  Backend& backend;
  Parameters& parameters;
  Report& report;
  Saver& saver;
};

// Trains to the end, or up to `max_windows`. Saves the final parameters to `save_to`, unless it is
// empty or the run was stopped. Reports the test perplexity of best.h5 beside that of the final
// weights. The log gets an error, too. Returns done or stopped. Collective.
ExitCode train_to_the_end(const TrainingParts& parts, Trainer& trainer,
                          std::optional<std::int64_t> max_windows, const std::string& save_to);

}  // namespace ptb
