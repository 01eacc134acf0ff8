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

// Writes all bytes, over interruptions and short writes. 0 or an errno value.
int write_all(int descriptor, std::span<const std::byte> bytes);

// What was written is on the disk; over interruptions. 0 or an errno value.
int sync_file(int descriptor);

// Whether anything has this name, be it a link to nothing.
bool is_there(const std::filesystem::path& path);

// The text of a file; nothing if there is none. Error 74.
std::optional<std::string> read_text(const std::string& what, const std::filesystem::path& path);

// The folder and those above it; one that is there already is fine. Error 74.
void create_folders(const std::string& what, const std::filesystem::path& path);

// The file holds exactly `bytes` and is on the disk, or it is what it was before. Error 74; `what`
// begins its message. Only where the folder alone cannot be synced is the file new in spite of the
// error. What a killed process leaves is a file beside it, ".<name>.tmp.<host>.<process>".
void replace_file(const std::string& what, const std::filesystem::path& path,
                  std::span<const std::byte> bytes);
// The names in a folder survive a power cut. 0 or an errno value; file systems that cannot are 0.
int sync_folder(const std::filesystem::path& folder);
// Tells before hours of work what replace_file would say after them, as far as can be known.
void check_replaceable(const std::string& what, const std::filesystem::path& path);
// Removes what processes of this host that are no more have left in the folder. Whatever cannot be
// removed stays, for the next time.
void remove_stale_temporaries(const std::filesystem::path& folder);

std::string host_name();

}  // namespace ptb
