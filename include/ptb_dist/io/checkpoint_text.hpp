// Checkpoints as text, for ptb_dist checkpoint inspect and diff.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// All that is in a file, a line for each fact or tensor.
std::vector<std::string> description_of(const CheckpointFile& file);

// What differs between two files, of each tensor the largest difference. Empty if nothing does that
// is read: the bytes may still differ.
std::vector<std::string> differences_of(const CheckpointFile& a, const CheckpointFile& b);

}  // namespace ptb
