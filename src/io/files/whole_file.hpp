// A file that is read into memory whole and once, so that the checked bytes are the bytes used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "io/files/subject.hpp"
#include "ptb_dist/base/file.hpp"

namespace ptb {

class WholeFile {
 public:
  // Opens the file. Error 74 if it cannot be read. The subject's error if it is a folder, FIFO or
  // device, which is not read.
  WholeFile(const std::filesystem::path& path, Subject subject);

  std::int64_t bytes() const { return file_.bytes; }
  // The first `count` bytes, or all if there are fewer.
  std::vector<std::byte> head(std::size_t count) const;
  // All bytes. Error 69 if the machine has less memory.
  std::vector<std::byte> all() const;

 private:
  std::filesystem::path path_;
  Subject subject_;
  RegularFile file_;
};

}  // namespace ptb
