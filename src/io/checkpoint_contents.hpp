// All of a checkpoint but the values of its tensors, as objects of the HDF5 file: each part is
// written and read by mates that stand together, so that a name has one place.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "io/hdf5_api.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// Where h and c of a layer are: "/state/lstm/0/h".
std::string state_name(int layer, char which);

// Error 76 for reals that are not finite: a file with one would be found bad when it is needed.
void check_can_be_saved(std::span<const std::byte> values, ElementType real, const Shape& shape,
                        const std::string& name);

void write_contents(hid_t file, const CheckpointInfo& info, const hdf5::Subject& subject);

// Checked for all that can be known without the values of the tensors; `file_bytes` bounds what is
// allocated. The subject's error, which names the object.
CheckpointInfo read_contents(hid_t file, std::size_t file_bytes, const hdf5::Subject& subject);

}  // namespace ptb
