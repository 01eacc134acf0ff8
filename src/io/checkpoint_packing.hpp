// What a checkpoint says, as bytes that cross a pipe: from the child that has opened the file to
// the process that asked.
#pragma once

#include <string>

#include "io/checkpoint_contents.hpp"

namespace ptb {

std::string packed(CheckpointContents contents);
// The subject's error if the bytes are no such contents. What they say is not judged.
CheckpointContents unpacked(const std::string& bytes, const hdf5::Subject& subject);

}  // namespace ptb
