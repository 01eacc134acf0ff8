// Who touched device and shared memory, and whether what came before was over: see race.cpp. Does
// nothing unless the kernels were compiled with the compiler's hooks (README).
#pragma once

#include <cstddef>

namespace ptb::cuda_on_cpu {

// A copy or a product reads or writes device memory.
void note_access(const void* address, std::size_t bytes, bool is_write);
// Whole pages of device memory are another's from here on, and not initialised.
void forget_accesses(const void* address, std::size_t bytes);
// So is all of shared memory.
void forget_shared();

}  // namespace ptb::cuda_on_cpu
