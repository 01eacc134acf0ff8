// A checkpoint as objects of an HDF5 file. The functions that write and read a part stand together,
// so that each name occurs in one place. Reading happens only in a child (io/files/guarded.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {

// What HDF5 finds in a file: everything but the values of the tensors, and where those are.
struct CheckpointContents {
  CheckpointInfo info{};
  std::vector<std::int64_t> places{};  // of each of tensors_of(info): its first byte in the file
};

// Parameters, then state, each in the order of its table.
std::vector<CheckpointFile::TensorName> tensors_of(const CheckpointInfo& info);

// All but the tensors.
void write_contents(hid_t file, const CheckpointInfo& info, const Subject& subject);

// `file_bytes` bounds what is allocated. The subject's error, which names the object, if anything
// is missing or stored in another way. check_contents judges the values; only those that decide
// shapes are checked here.
CheckpointContents read_contents(hid_t file, std::size_t file_bytes, const Subject& subject);

}  // namespace ptb
