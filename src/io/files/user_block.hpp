// The text at the beginning of a checkpoint, before HDF5's first byte. `head -c 512 FILE` shows it,
// and its digest can be checked without HDF5.
//
//   ptb_dist checkpoint
//   format = 1
//   bytes = 190712
//   xxh3_128 = 99aa06d3014798d86001c324468d497f
//   step = 12000
//
// The rest is NUL. The digest covers all bytes of the file, with '0' for each of its own digits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "io/files/subject.hpp"

namespace ptb {

inline constexpr std::size_t kUserBlockBytes = 512;
inline constexpr const char* kUserBlockTitle = "ptb_dist checkpoint\n";

struct UserBlock {
  std::int64_t bytes = 0;  // of the file
  std::string digest{};    // kDigestDigits
  std::int64_t step = 0;
};

// The block with its padding; an empty digest gives zeros.
std::string text_of(const UserBlock& block);

// Reads the block from the first bytes of a file of `file_bytes`; `head` has kUserBlockBytes, or
// all of a shorter file. The subject's error if the file is no checkpoint, has another format, is
// truncated, or has a block that text_of would not write.
UserBlock parse_user_block(std::span<const std::byte> head, std::int64_t file_bytes,
                           const Subject& subject);

// The digest of a whole file with such a block.
std::string digest_of_checkpoint(std::span<const std::byte> image);

}  // namespace ptb
