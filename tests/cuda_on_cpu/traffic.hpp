// Bytes that kernels move: see traffic.cpp. Counts nothing unless CUDA_ON_CPU_COUNTS asks for it,
// and no bytes unless the kernels were compiled with the compiler's hooks (README).
#pragma once

#include <cstddef>
#include <string>

namespace ptb::cuda_on_cpu {

// A launch begins, and each of its blocks: they run one after another.
void count_launch(const std::string& launched_at);
void count_block();
// A thread of that block reads or writes device memory.
void count_access(const void* address, std::size_t bytes, bool is_write);

}  // namespace ptb::cuda_on_cpu
