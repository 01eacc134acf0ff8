// Work that hostile input may crash or send round for ever, tried out in a child process first.
//
// libhdf5 1.10 can be crashed by a file (SIGFPE and SIGSEGV have been seen), and a right digest
// does not make a file harmless. So all that is done with a file is done on its bytes in a child,
// which has little memory and time and no files to write; only then by the process itself.
#pragma once

#include <cstddef>
#include <functional>

#include "io/hdf5_api.hpp"

namespace ptb {

// What the work may take beyond what the process has, from the bytes that it is about.
struct GuardLimits {
  std::size_t memory = 0;  // bytes
  int seconds = 0;         // of processor time

  static GuardLimits for_bytes(std::size_t bytes);
};

// Runs `work` in a child of this process and forgets whatever it changed. An Error that it throws
// is thrown here. If it ends in another way or takes too long the subject's error says so. Error 70
// if there can be no child.
void run_guarded(const hdf5::Subject& subject, GuardLimits limits,
                 const std::function<void()>& work);

}  // namespace ptb
