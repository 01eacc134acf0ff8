// Files written with plain system calls, so that each failure is seen, named and explained.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/file.hpp"

namespace ptb {

// "<what>: <path>: <text of the errno value>; <what to do about it>", with code 74.
Error io_error(const std::string& what, const std::filesystem::path& path, int error_number);

// Writes all bytes, with as many calls as needed. Returns 0 or an errno value.
int write_all(int descriptor, std::span<const std::byte> bytes);

// Waits until what was written is on the disk. Returns 0 or an errno value.
int sync_file(int descriptor);

// Whether anything has this name, even a link to nothing.
bool is_there(const std::filesystem::path& path);

// The text of a file; nothing if there is none. Error 74.
std::optional<std::string> read_text(const std::string& what, const std::filesystem::path& path);

// Makes the folder and those above it; they may exist. Error 74.
void create_folders(const std::string& what, const std::filesystem::path& path);

// Afterwards the file holds exactly `bytes` and is on the disk, or is unchanged. Error 74; `what`
// begins its message. Only if syncing the folder is what fails, the file is new in spite of the
// error. A killed process may leave a file beside it, ".<name>.tmp.<host>.<process>".
void replace_file(const std::string& what, const std::filesystem::path& path,
                  std::span<const std::byte> bytes);
// After this the names in a folder survive a power cut. Returns 0 or an errno value; 0, too, if the
// file system cannot sync a folder.
int sync_folder(const std::filesystem::path& folder);
// Called before hours of work: throws, as far as can be known, what replace_file would throw later.
void check_replaceable(const std::string& what, const std::filesystem::path& path);
// Removes the temporary files in the folder of this host's processes that have ended. A file that
// cannot be removed stays for the next time.
void remove_stale_temporaries(const std::filesystem::path& folder);

std::string host_name();

}  // namespace ptb
