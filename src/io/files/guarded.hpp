// Work with hostile input, done in a child process.
//
// libhdf5 1.10 can be crashed by a file (SIGFPE and SIGSEGV have been seen), and some files make it
// read beyond its buffers without a crash; a right digest does not make a file harmless. So only a
// child opens it, which has little memory and time and can write no file. What it finds comes back
// as bytes, and is checked like any input.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "io/files/subject.hpp"

namespace ptb {

// What the work may take beyond what the process has, from the bytes that it is about.
struct GuardLimits {
  std::size_t memory = 0;  // bytes
  int seconds = 0;         // of processor time

  static GuardLimits for_bytes(std::size_t bytes);
};

// What `work` returns in a child of this process; whatever else it changes is forgotten. An Error
// that it throws is thrown here. If it ends in another way, takes too long or returns more than
// limits.memory the subject's error says so. Error 70 if there can be no child.
std::string run_guarded(const Subject& subject, GuardLimits limits,
                        const std::function<std::string()>& work);

}  // namespace ptb
