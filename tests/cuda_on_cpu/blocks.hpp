// Runs a grid: block after block, the threads of a block as fibers that truly wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda_on_cpu/device.hpp"

namespace ptb::cuda_on_cpu {

struct Kernel {
  Invoke invoke = nullptr;
  std::vector<std::size_t> sizes{};  // of the arguments
  std::string launched_at{};         // "stack.cu:91", of the latest launch
};
// Null for a function that launch() has not introduced.
const Kernel* find_kernel(const void* function);

struct GridCall {
  const void* function = nullptr;
  Kernel kernel{};
  dim3 grid{}, block{};
  std::vector<std::vector<std::byte>> arguments{};  // copies
};
// The schedule is drawn from the seed and the number of the call, counted here.
void run_grid(GridCall& call);

// Who is running, for the race check: block and thread within the grid, and how many barriers the
// block has passed. Only while a kernel runs.
struct Runner {
  bool is_kernel = false;
  std::uint32_t block = 0;
  std::uint16_t thread = 0;
  std::uint16_t epoch = 0;
};
extern Runner runner;

constexpr std::size_t kSharedBytes = std::size_t{227} << 10;  // from shared_memory()

}  // namespace ptb::cuda_on_cpu
