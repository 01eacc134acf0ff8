// Shared by the tests of io: a folder for each test, file contents, expected failures, and children
// that may set limits or end.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "ptb_dist/base/error.hpp"

namespace ptb::test {

// A new folder, removed with its content at the end.
class Scratch {
 public:
  Scratch() {
    std::string pattern = std::filesystem::temp_directory_path() / "ptb_dist_io_XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no scratch folder");
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void put(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

struct Failure {
  int code = 0;      // 0: none
  std::string line;  // the first

  bool names(const std::string& text) const { return line.find(text) != std::string::npos; }
};

template <class Work>
Failure failure_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return {static_cast<int>(error.code()), error.lines().at(0)};
  }
  return {};
}

// Runs `work` in a child process that ends in the ordinary way with the code of the Error that was
// thrown (0: none). The result is that code, or 128 + the signal that ended the child.
template <class Work>
int code_in_child(const Work& work) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) std::exit(failure_of(work).code);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace ptb::test
