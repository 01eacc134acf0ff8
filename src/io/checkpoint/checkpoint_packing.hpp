// The contents of a checkpoint as bytes for a pipe: from the child that has opened the file to its
// parent.
#pragma once

#include <span>
#include <string>

#include "io/checkpoint/checkpoint_contents.hpp"

namespace ptb {

// `keys` are the schema's, or a test's own.
std::string packed(CheckpointContents contents, std::span<const Key> keys = config_schema());
// The subject's error if the bytes are no such contents. The values are not checked.
CheckpointContents unpacked(const std::string& bytes, const Subject& subject,
                            std::span<const Key> keys = config_schema());

}  // namespace ptb
