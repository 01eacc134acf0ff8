// A file that is read into memory as a whole, and only once: what has been checked is what is used.
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
  // Opens it. Error 74 if it cannot be read; the subject's if it is a folder, FIFO or device,
  // unread.
  WholeFile(const std::filesystem::path& path, Subject subject);

  std::int64_t bytes() const { return file_.bytes; }
  // The first `count` bytes, or all if there are fewer.
  std::vector<std::byte> head(std::size_t count) const;
  // Error 69 if they are more than this machine's memory.
  std::vector<std::byte> all() const;

 private:
  std::filesystem::path path_;
  Subject subject_;
  RegularFile file_;
};

}  // namespace ptb
