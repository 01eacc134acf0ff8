// HDF5 files as bytes in memory: the library never sees a disk. A full one crashes HDF5 1.10 when
// the process ends, and what is read has been checked before the library looks at it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"

namespace ptb::hdf5 {

// A new file; `user_block` bytes before its first are left for others: 0, or a power of two from
// 512 on.
Handle create_in_memory(std::size_t user_block, const Subject& subject);
// The finished file, its user block filled with NUL. The same content gives the same bytes.
std::vector<std::byte> image_of(hid_t file, std::size_t user_block, const Subject& subject);

// Opens such bytes for reading without a copy: they must stay until the file is closed. The
// subject's error if they are no HDF5 file.
Handle open_image(std::span<const std::byte> image, const Subject& subject);

}  // namespace ptb::hdf5
