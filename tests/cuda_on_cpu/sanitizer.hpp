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
inline void start_switch(FiberStack& from, const FiberStack& to) {
  __sanitizer_start_switch_fiber(&from.hidden, to.bottom, to.bytes);
}
// On the stack that was switched to: ASan tells where the other one is.
inline void finish_switch(const FiberStack& me, FiberStack& from) {
  __sanitizer_finish_switch_fiber(me.hidden, &from.bottom, &from.bytes);
}
inline void allow_access(const void* begin, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
}
inline void forbid_access(const void* begin, std::size_t bytes) {
  ASAN_POISON_MEMORY_REGION(begin, bytes);
}
#else
inline void start_switch(FiberStack&, const FiberStack&) {}
inline void finish_switch(const FiberStack&, FiberStack&) {}
inline void allow_access(const void*, std::size_t) {}
inline void forbid_access(const void*, std::size_t) {}
#endif

}  // namespace ptb::cuda_on_cpu
