// What the training loop asks of whoever keeps its checkpoints (run/checkpointer.hpp).
#pragma once

#include <span>

#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/train/lane_groups.hpp"

namespace ptb {

class Saver {
 public:
  virtual ~Saver() = default;

  // Whether this rank wants a checkpoint now. Called once a window; never waits.
  virtual bool wants_save() = 0;
  // Saves the run as it is between two windows, with the state of this rank's groups. The file is
  // also best.h5 if `is_best`. Throws what an earlier save has thrown. Collective.
  virtual void save(const Progress& progress, std::span<const LaneGroup> groups, bool is_best) = 0;
  // Waits until what was saved last is on the disk. Collective.
  virtual void finish() = 0;
};

}  // namespace ptb
