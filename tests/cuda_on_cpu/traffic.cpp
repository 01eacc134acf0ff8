// Bytes that kernels move, in the memory's smallest unit, a sector, which is paid for in full
// however little of it is used. Each sector remembers the latest block that read it and the latest
// that wrote it; blocks are numbered through all launches, so that number tells whether this block
// was there before (its own cache has the sector), or another one of this launch (the L2 cache may
// have it).
#include "cuda_on_cpu/traffic.hpp"

#include <sys/mman.h>

#include <cstdint>

#include "cuda_on_cpu/memory.hpp"
#include "cuda_on_cpu/settings.hpp"

namespace ptb::cuda_on_cpu {
namespace {

constexpr std::size_t kSector = 32;

struct Sector {
  std::uint32_t reader = 0, writer = 0;  // blocks, from 1; 0: none yet
};

// Of all device memory; pages come when touched.
Sector* sectors() {
  static auto* const instance = [] {
    void* memory = mmap(nullptr, device_span() / kSector * sizeof(Sector), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no addresses for the count of bytes");
    return static_cast<Sector*>(memory);
  }();
  return instance;
}

KernelCount* kernel = nullptr;  // whose launch runs; null: nobody asks
std::uint32_t block = 0;
std::uint32_t first_block = 1;  // of the launch

}  // namespace

void count_launch(const std::string& launched_at) {
  if (!settings().is_counting) return;
  kernel = &counters().by_kernel[launched_at];
  ++kernel->runs;
  first_block = block + 1;
}

void count_block() { ++block; }

void count_access(const void* address, std::size_t bytes, bool is_write) {
  if (kernel == nullptr) return;
  const auto offset =
      static_cast<std::size_t>(static_cast<const unsigned char*>(address) - device_begin());
  Bytes& moved = is_write ? kernel->written : kernel->read;
  for (std::size_t k = offset / kSector; k <= (offset + bytes - 1) / kSector; ++k) {
    std::uint32_t& latest = is_write ? sectors()[k].writer : sectors()[k].reader;
    if (latest == block) continue;
    moved.of_blocks += kSector;
    if (latest < first_block) moved.of_memory += kSector;
    latest = block;
  }
}

}  // namespace ptb::cuda_on_cpu
