// Environment variables, chance, and the end of a program that did what no device allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "cuda_on_cpu/control.hpp"

namespace ptb::cuda_on_cpu {

struct Settings {
  std::uint64_t seed = 1;
  int devices = 1;
  int first_device = 0;  // what the host calls this process' device 0
  int driver = 13000;
  std::size_t memory = std::size_t{1} << 30;
  bool is_mig = false;
  bool truncates_tf32 = false;
  int nccl = 0;                 // version of NCCL; 0: not emulated
  std::string failing{};        // a word of CUDA_ON_CPU_FAIL, or nothing
  std::int64_t failing_at = 0;  // its number, from 1
  bool is_counting = false;     // CUDA_ON_CPU_COUNTS names a file
};
const Settings& settings();

// Whether this is the call of its kind ("malloc", ...) that is to fail.
bool is_to_fail(const char* kind);

// Ends the process with 86 after a line with the seed. Never throws: kernels are called through
// hooks of the compiler, which takes them not to, and a fiber must not be unwound.
[[noreturn]] void fail(const std::string& what);

// Numbers drawn from the seed and a number of the caller's: the same whatever was drawn elsewhere.
class Dice {
 public:
  explicit Dice(std::uint64_t number);
  std::uint64_t next();
  // In [0, limit), limit > 0; always 0 in the schedule that is in order.
  std::size_t below(std::size_t limit);

 private:
  std::uint64_t state_;
  bool in_order_;
};

// How streams are served, from the seed.
enum class Service {
  eager,     // each operation when it is enqueued
  starving,  // nothing before the host waits; then one stream as far as it can
  uniform,   // any stream, any time
};
Service service();

}  // namespace ptb::cuda_on_cpu
