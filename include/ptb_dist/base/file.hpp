// Files opened and read with plain system calls, so that each failure is seen and named.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace ptb {

// Owns a file descriptor; -1 is none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) : descriptor_(descriptor) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  // 0 or an errno value: a network file system may report a failed write only here.
  int close();

 private:
  int descriptor_;
};

// A regular file, open for reading, or why there is none.
struct RegularFile {
  FileDescriptor descriptor{};
  std::int64_t bytes = 0;
  std::string refusal{};  // empty: it is open
  int error_number = 0;   // of the call that failed; 0 where the file is of another kind
};
// Neither waits nor reads. Refuses a folder, a FIFO or a device.
RegularFile open_regular(const std::filesystem::path& path);

// Fills `to`, however many reads that takes; fills less only if the file ends. Returns the number
// of bytes, or -1 with errno.
std::int64_t read_all(const FileDescriptor& file, std::span<char> to);

}  // namespace ptb
