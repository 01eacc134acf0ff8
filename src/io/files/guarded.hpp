// Work with hostile input, done in a child process.
//
// A file can crash libhdf5 1.10 (SIGFPE and SIGSEGV have been seen), and some files make it read
// beyond its buffers without a crash. A file with a correct digest may still do this. So only a
// child opens the file; it has little memory and time and can write no file. Its result comes back
// as bytes and is checked like any input.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "io/files/subject.hpp"

namespace ptb {

// What the work may use beyond what the process has; it follows from the bytes of the input.
struct GuardLimits {
  std::size_t memory = 0;  // bytes
  int seconds = 0;         // of processor time

  static GuardLimits for_bytes(std::size_t bytes);
};

// Runs `work` in a child process and returns its result; other changes that it makes are lost. An
// Error that it throws is thrown here. If it ends in another way, takes too long or returns more
// than limits.memory, the subject's error says so. Error 70 if no child can be started.
std::string run_guarded(const Subject& subject, GuardLimits limits,
                        const std::function<std::string()>& work);

}  // namespace ptb
