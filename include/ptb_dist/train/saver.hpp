// How the training loop saves checkpoints; run/checkpointer.hpp implements it.
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
  // also best.h5 if `is_best`. Throws the error of an earlier save. Collective.
  virtual void save(const Progress& progress, std::span<const LaneGroup> groups, bool is_best) = 0;
  // Waits until the last save is on the disk. Collective.
  virtual void finish() = 0;
};

}  // namespace ptb
