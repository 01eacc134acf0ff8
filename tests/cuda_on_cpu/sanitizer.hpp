// Tells AddressSanitizer of every change of stacks; nothing in a build without it.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace ptb::cuda_on_cpu {

struct FiberStack {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  void* hidden = nullptr;  // ASan's own stack of the fiber, while it does not run
};

#ifdef __SANITIZE_ADDRESS__
inline FiberStack scheduler_stack;

inline void start_switch_to(const FiberStack& to) {
  __sanitizer_start_switch_fiber(&scheduler_stack.hidden, to.bottom, to.bytes);
}
inline void finish_switch_to(const FiberStack& me) {
  __sanitizer_finish_switch_fiber(me.hidden, &scheduler_stack.bottom, &scheduler_stack.bytes);
}
inline void start_switch_to_scheduler(FiberStack& me) {
  __sanitizer_start_switch_fiber(&me.hidden, scheduler_stack.bottom, scheduler_stack.bytes);
}
inline void finish_switch_to_scheduler() {
  __sanitizer_finish_switch_fiber(scheduler_stack.hidden, nullptr, nullptr);
}
inline void allow_access(const void* begin, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
}
inline void forbid_access(const void* begin, std::size_t bytes) {
  ASAN_POISON_MEMORY_REGION(begin, bytes);
}
#else
inline void start_switch_to(const FiberStack&) {}
inline void finish_switch_to(const FiberStack&) {}
inline void start_switch_to_scheduler(FiberStack&) {}
inline void finish_switch_to_scheduler() {}
inline void allow_access(const void*, std::size_t) {}
inline void forbid_access(const void*, std::size_t) {}
#endif

}  // namespace ptb::cuda_on_cpu
