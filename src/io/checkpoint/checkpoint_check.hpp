// Checks that the contents of a checkpoint can be those of a run. Uses no HDF5.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "io/checkpoint/checkpoint_contents.hpp"

namespace ptb {

// Each throws the subject's error, which names the object and what is wrong with it.

// No count is negative, and a file of that size can hold so many epochs. Leaves out the history.
void check_counts(const Progress& progress, std::size_t file_bytes, const Subject& subject);
// The tensors have no more bytes than the file.
void check_size(const CheckpointInfo& info, std::size_t file_bytes, const Subject& subject);
// All of the above and the rest, but not the values of the tensors.
void check_contents(const CheckpointContents& contents, std::size_t file_bytes,
                    const Subject& subject);

// Error 76 for reals that are not finite: a reader would refuse a file with such a value.
void check_can_be_saved(std::span<const std::byte> values, ElementType real, const Shape& shape,
                        const std::string& name);

}  // namespace ptb
