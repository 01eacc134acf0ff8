// Files written with plain system calls, so that each failure is seen, named and explained.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/file.hpp"

namespace ptb {

// "<what>: <path>: <text of the errno value>; <what to do about it>", with code 74.
Error io_error(const std::string& what, const std::filesystem::path& path, int error_number);

// Writes all bytes, over interruptions and short writes. 0 or an errno value.
int write_all(int descriptor, std::span<const std::byte> bytes);

// The file holds exactly `bytes` and is on the disk, or it is what it was before. Error 74; `what`
// begins its message.
void replace_file(const std::string& what, const std::filesystem::path& path,
                  std::span<const std::byte> bytes);
// Tells before hours of work what replace_file would say after them, as far as can be known.
void check_replaceable(const std::string& what, const std::filesystem::path& path);

}  // namespace ptb
