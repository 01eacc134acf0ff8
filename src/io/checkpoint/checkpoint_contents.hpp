// A checkpoint as objects of an HDF5 file: each part is written and read by mates that stand
// together, so that a name has one place. Read only in a child (io/guarded.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// What HDF5 says of a file: all but the values of the tensors, and where those are.
struct CheckpointContents {
  CheckpointInfo info{};
  std::vector<std::int64_t> places{};  // of tensors_of(info), in bytes of the file
};

// Parameters and then state, each in the order of its table.
std::vector<CheckpointFile::TensorName> tensors_of(const CheckpointInfo& info);

// All but the tensors.
void write_contents(hid_t file, const CheckpointInfo& info, const Subject& subject);

// `file_bytes` bounds what is allocated. The subject's error, which names the object, if anything
// is missing or not stored as it must be. What the values are is for check_contents to judge; only
// those that shapes follow from are looked at here.
CheckpointContents read_contents(hid_t file, std::size_t file_bytes, const Subject& subject);

}  // namespace ptb
