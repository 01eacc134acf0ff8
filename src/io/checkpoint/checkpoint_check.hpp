// Whether what a checkpoint says can be true of a run. HDF5 has no part in it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "io/checkpoint/checkpoint_contents.hpp"

namespace ptb {

// Each throws the subject's error, which names the object and what is wrong with it.

// Counts from 0 up, and as many epochs as fit into a file of that size; the history apart.
void check_counts(const Progress& progress, std::size_t file_bytes, const Subject& subject);
// The tensors' bytes are no more than the file's.
void check_size(const CheckpointInfo& info, std::size_t file_bytes, const Subject& subject);
// All of that and the rest, but the values of the tensors.
void check_contents(const CheckpointContents& contents, std::size_t file_bytes,
                    const Subject& subject);

// Error 76 for reals that are not finite: a file with one would be found bad when it is needed.
void check_can_be_saved(std::span<const std::byte> values, ElementType real, const Shape& shape,
                        const std::string& name);

}  // namespace ptb
