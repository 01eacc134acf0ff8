// The race check: no schedule is needed, since an access that is not ordered after the one before
// it is reported whatever came first this time.
//
// Kernels that are compiled with -fsanitize=thread call the functions at the end of this file,
// which take the place of the compiler's library, at each access. Every four bytes of device and
// shared memory have a cell with the last write and the latest reads. Two accesses are ordered
//   - of different operations of streams, if the clock of the later one has seen the earlier one;
//   - of one kernel, if they are of one thread, or of one block with a barrier between them.
// Copies and products come through note_access. Memory is not initialised until it is written.
#include "cuda_on_cpu/race.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "cuda_on_cpu/blocks.hpp"
#include "cuda_on_cpu/memory.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/streams.hpp"
#include "cuda_on_cpu/traffic.hpp"

namespace ptb::cuda_on_cpu {
namespace {

constexpr std::size_t kGranule = 4;

struct Access {
  std::uint32_t number = 0;  // of the operation on its lane; 0: there was none
  std::uint32_t block = 0;
  std::uint16_t lane = 0;
  std::uint16_t thread = 0;
  std::uint16_t epoch = 0;     // barriers that the block had passed
  std::uint8_t bytes : 4 = 0;  // a bit for each byte of the granule
  // Of reads that this one stands for: by other threads of the block, or of other blocks.
  bool is_of_threads : 1 = false;
  bool is_of_blocks : 1 = false;
};
static_assert(sizeof(Access) == 16);  // cells are what the check's time goes to

// Two reads, since operations of two streams may read before a third one writes.
struct Cell {
  Access write{};
  std::array<Access, 2> reads{};
  std::uint8_t initialised = 0;  // a bit for each byte
};

bool is_instrumented = false;
// Shared memory that was accessed since it was forgotten.
std::uintptr_t shared_low = UINTPTR_MAX, shared_high = 0;

// Device or shared memory, and its cells: none before the first instrumented function is loaded.
struct Checked {
  const unsigned char* begin = nullptr;
  std::size_t bytes = 0;
  Cell* cells = nullptr;

  bool has(const unsigned char* address) const {
    return static_cast<std::size_t>(address - begin) < bytes;
  }
};
Checked device, shared;

Checked checked(const unsigned char* begin, std::size_t bytes) {
  void* memory = mmap(nullptr, bytes / kGranule * sizeof(Cell), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("no addresses for the race check's shadow");
  return {begin, bytes, static_cast<Cell*>(memory)};
}

void begin_check() {
  if (is_instrumented) return;
  is_instrumented = true;
  device = checked(device_begin(), device_span());
  shared = checked(shared_memory(), kSharedBytes);
}

Cell& cell_of(const unsigned char* address) {
  const Checked& memory = device.has(address) ? device : shared;
  return memory.cells[static_cast<std::size_t>(address - memory.begin) / kGranule];
}

bool is_same_operation(const Access& a, const Access& b) {
  return a.number == b.number && a.lane == b.lane;
}

// Whether the operation that runs began after `a` was over.
bool is_behind(const Access& a) {
  const Clock& clock = current_operation()->clock;
  return a.lane < clock.size() && clock[a.lane] >= a.number;
}

bool is_ordered(const Access& a, const Access& now) {
  if (a.number == 0 || (a.bytes & now.bytes) == 0) return true;
  if (!is_same_operation(a, now)) return is_behind(a);
  if (a.is_of_blocks || a.block != now.block) return false;
  return a.epoch != now.epoch || (a.thread == now.thread && !a.is_of_threads);
}

std::string place_of(const Access& a) {
  return "block " + std::to_string(a.block) + " thread " + std::to_string(a.thread);
}

void require_ordered(const char* what, const Access& before, const Access& now) {
  if (is_ordered(before, now)) return;
  const std::string kind = std::string(current_operation()->what) + ", " + what;
  if (!is_same_operation(before, now)) {
    fail("race between operations (" + kind + "): no event, graph or stream orders them");
  }
  fail("race within a kernel (" + kind + "): " + place_of(before) + " and " + place_of(now) +
       " without a barrier between them");
}

void note_write(Cell& cell, const Access& now) {
  require_ordered("write after write", cell.write, now);
  for (const Access& read : cell.reads) require_ordered("write after read", read, now);
  cell.write = now;
  cell.initialised = static_cast<std::uint8_t>(cell.initialised | now.bytes);
}

void note_read(Cell& cell, const Access& now, bool is_kernel) {
  if ((cell.initialised & now.bytes) != now.bytes) {
    fail(std::string("a ") + current_operation()->what + " reads memory that nobody wrote, " +
         (is_kernel ? place_of(now) : ""));
  }
  require_ordered("read after write", cell.write, now);
  for (Access& read : cell.reads) {
    if (read.number != 0 && is_same_operation(read, now)) {
      const Access before = read;
      read = now;
      read.bytes = (before.bytes | now.bytes) & 0xfu;
      read.is_of_blocks = before.is_of_blocks || before.block != now.block;
      // An older read of another epoch is ordered before whatever this one is ordered before.
      read.is_of_threads =
          before.epoch == now.epoch && (before.is_of_threads || before.thread != now.thread);
      return;
    }
  }
  // One that is ordered before this one need not be remembered beside it.
  Access& replaced =
      cell.reads[0].number == 0 || is_behind(cell.reads[0]) ? cell.reads[0] : cell.reads[1];
  replaced = now;
}

std::uint8_t bytes_within(std::size_t first, std::size_t end) {
  return static_cast<std::uint8_t>(((1u << end) - 1u) & ~((1u << first) - 1u));
}

// Access to [address, address + bytes), granule by granule.
void note(const unsigned char* address, std::size_t bytes, bool is_write, Access now,
          bool is_kernel) {
  while (bytes > 0) {
    const std::size_t first = reinterpret_cast<std::uintptr_t>(address) % kGranule;
    const std::size_t length = std::min(bytes, kGranule - first);
    now.bytes = bytes_within(first, first + length) & 0xfu;
    Cell& cell = cell_of(address);
    if (is_write) {
      note_write(cell, now);
    } else {
      note_read(cell, now, is_kernel);
    }
    address += length;
    bytes -= length;
  }
}

// Of a kernel's thread, from the compiler's hook.
void note_thread_access(const void* address, std::size_t bytes, bool is_write) {
  if (!runner.is_kernel) return;
  const auto* p = static_cast<const unsigned char*>(address);
  const bool is_in_shared = shared.has(p);
  if (!is_in_shared && !device.has(p)) return;  // the thread's own stack
  if (!is_in_shared && !is_allocated(p, bytes)) {
    fail("a kernel leaves its memory: " + std::to_string(bytes) + " bytes, block " +
         std::to_string(runner.block) + " thread " + std::to_string(runner.thread));
  }
  if (reinterpret_cast<std::uintptr_t>(p) % std::min<std::size_t>(bytes, 16) != 0) {
    fail("a kernel's access of " + std::to_string(bytes) + " bytes is not aligned");
  }
  if (is_in_shared) {
    shared_low = std::min(shared_low, reinterpret_cast<std::uintptr_t>(p));
    shared_high = std::max(shared_high, reinterpret_cast<std::uintptr_t>(p) + bytes);
  }
  note(p, bytes, is_write,
       {.number = current_operation()->number,
        .block = runner.block,
        .lane = static_cast<std::uint16_t>(current_operation()->lane),
        .thread = runner.thread,
        .epoch = runner.epoch},
       true);
  if (!is_in_shared) count_access(p, bytes, is_write);
}

}  // namespace

void note_access(const void* address, std::size_t bytes, bool is_write) {
  if (!is_instrumented || bytes == 0) return;
  if (!is_allocated(address, bytes)) fail("a copy or a product leaves its memory");
  note(static_cast<const unsigned char*>(address), bytes, is_write,
       {.number = current_operation()->number,
        .lane = static_cast<std::uint16_t>(current_operation()->lane)},
       false);
}

// Pages of cells that are given back are zero when they are touched again: few of them ever are.
void forget_accesses(const void* address, std::size_t bytes) {
  if (!is_instrumented) return;
  Cell* const cells = &cell_of(static_cast<const unsigned char*>(address));
  if (madvise(cells, bytes / kGranule * sizeof(Cell), MADV_DONTNEED) != 0) {
    fail("the race check cannot forget accesses");
  }
}

// Shared memory is another block's now.
void forget_shared() {
  if (shared_high == 0) return;
  const auto* begin = reinterpret_cast<const unsigned char*>(shared_low / kGranule * kGranule);
  std::fill_n(&cell_of(begin),
              (shared_high - reinterpret_cast<std::uintptr_t>(begin) + kGranule - 1) / kGranule,
              Cell{});
  shared_low = UINTPTR_MAX;
  shared_high = 0;
}

}  // namespace ptb::cuda_on_cpu

// What GCC calls; its names and types are the compiler's.
extern "C" {

void __tsan_init() { ptb::cuda_on_cpu::begin_check(); }

#define PTB_HOOKS(bytes)                                         \
  void __tsan_read##bytes(void* address) {                       \
    ptb::cuda_on_cpu::note_thread_access(address, bytes, false); \
  }                                                              \
  void __tsan_write##bytes(void* address) {                      \
    ptb::cuda_on_cpu::note_thread_access(address, bytes, true);  \
  }                                                              \
  void __tsan_unaligned_read##bytes(void* address) {             \
    ptb::cuda_on_cpu::note_thread_access(address, bytes, false); \
  }                                                              \
  void __tsan_unaligned_write##bytes(void* address) {            \
    ptb::cuda_on_cpu::note_thread_access(address, bytes, true);  \
  }
PTB_HOOKS(1)
PTB_HOOKS(2)
PTB_HOOKS(4)
PTB_HOOKS(8)
PTB_HOOKS(16)
#undef PTB_HOOKS

void __tsan_read_range(void* address, unsigned long bytes) {
  ptb::cuda_on_cpu::note_thread_access(address, bytes, false);
}
void __tsan_write_range(void* address, unsigned long bytes) {
  ptb::cuda_on_cpu::note_thread_access(address, bytes, true);
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
// Local statics and shared_ptr on the host's side of the backend; its kernels have no atomics.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
unsigned __tsan_atomic32_fetch_add(volatile unsigned* address, unsigned value, int) {
  return __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL);
}

}  // extern "C"
