// HDF5 files as bytes in memory: the library never touches a disk. A full disk would crash HDF5
// 1.10 when the process ends, and a file that is read must be checked before the library sees it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"

namespace ptb::hdf5 {

// A new file with `user_block` bytes before its own first: 0, or a power of two from 512 on.
Handle create_in_memory(std::size_t user_block, const Subject& subject);
// The bytes of the finished file, with NUL in the user block. Equal contents give equal bytes.
std::vector<std::byte> image_of(hid_t file, std::size_t user_block, const Subject& subject);

// Opens such bytes for reading, without a copy: they must live until the file is closed. The
// subject's error if they are no HDF5 file.
Handle open_image(std::span<const std::byte> image, const Subject& subject);

}  // namespace ptb::hdf5
