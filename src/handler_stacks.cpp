// Keeps signal handlers of other code off the stacks of threads that compute.
//
// The program itself handles no signal (base/stop.hpp), but libraries, profilers and preloaded
// tools do. A handler runs on the stack of the thread that receives the signal. oneDNN 2's
// generated matrix products (AVX2, AVX-512) let the stack pointer point into their own data on the
// heap. The frame of the handler then overwrites these data: the program crashes, or has wrong
// weights without a message. Other products are several times slower, so the handlers get another
// stack. The loader looks for a symbol in the program before it looks into libraries, so this file
// replaces functions of the C library:
//   - sigaction and signal install every handler with SA_ONSTACK.
//   - pthread_create gives every thread, OpenMP's too, an alternate stack for handlers; the thread
//     receives no signal before it has one and after it has given it up.
// A handler that is installed by the system call itself, or by sigset(), is not covered.
//
// Tests link a program without this file, too, to see that the fault is there.
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <new>

namespace {

// Room for a handler: Open MPI's prints the stack, profilers walk it. This is address space; only
// the pages that a handler touches become memory.
constexpr std::size_t kRoom = std::size_t{256} << 10;

// The next function of this name: the C library's, or that of a preloaded tool.
template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}
using SigactionFunction = int (*)(int, const struct sigaction*, struct sigaction*);
SigactionFunction next_sigaction() {
  static const auto function = next<SigactionFunction>("sigaction");
  return function;
}
using PthreadCreateFunction = decltype(&pthread_create);
PthreadCreateFunction next_pthread_create() {
  static const auto function = next<PthreadCreateFunction>("pthread_create");
  return function;
}

// The calling thread's alternate stack, as long as this object lives. If there is no memory for it,
// the thread runs without: it is a protection, and not required.
class AlternateStack {
 public:
  AlternateStack() {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    // The kernel stores all registers there; those of AMX take 8 KiB.
    const std::size_t least = ::getauxval(AT_MINSIGSTKSZ);
    bytes_ = (page + least + kRoom + page - 1) / page * page;
    begin_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (begin_ == MAP_FAILED) return;
    ::mprotect(begin_, page, PROT_NONE);  // a handler that needs more room crashes at once
    const stack_t stack{
        .ss_sp = static_cast<std::byte*>(begin_) + page, .ss_flags = 0, .ss_size = bytes_ - page};
    ::sigaltstack(&stack, nullptr);
  }
  ~AlternateStack() {
    if (begin_ == MAP_FAILED) return;
    stack_t stack{};
    ::sigaltstack(nullptr, &stack);
    const auto* mine = static_cast<std::byte*>(begin_);
    const auto* now = static_cast<std::byte*>(stack.ss_sp);
    if (now > mine && now < mine + bytes_) {  // else other code has replaced the stack
      const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
      ::sigaltstack(&none, nullptr);
    }
    ::munmap(begin_, bytes_);
  }
  AlternateStack(const AlternateStack&) = delete;
  AlternateStack& operator=(const AlternateStack&) = delete;

 private:
  void* begin_ = MAP_FAILED;
  std::size_t bytes_ = 0;
};

// Blocks all signals while it lives, unless its owner changes the mask; its end restores the mask.
class AllBlocked {
 public:
  AllBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &mask_);
  }
  ~AllBlocked() { ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr); }
  AllBlocked(const AllBlocked&) = delete;
  AllBlocked& operator=(const AllBlocked&) = delete;

  const sigset_t& mask() const { return mask_; }

 private:
  sigset_t mask_{};
};

struct Start {
  void* (*routine)(void*);
  void* argument;
  sigset_t mask;  // of the thread, set when it has its alternate stack
};

// Begins with all signals blocked and ends so, also by pthread_exit and pthread_cancel, which run
// destructors.
void* run_with_alternate_stack(void* given) {
  const Start start = *std::unique_ptr<Start>(static_cast<Start*>(given));
  const AlternateStack stack;
  const AllBlocked at_the_end;
  ::pthread_sigmask(SIG_SETMASK, &start.mask, nullptr);
  return start.routine(start.argument);
}

// The first thread keeps its alternate stack for ever. Only the loader has run so far. Preloaded
// libraries run later, and from then on a handler may call sigaction at any time.
void prepare(int, char**, char**) {
  alignas(AlternateStack) static std::byte place[sizeof(AlternateStack)];
  new (place) AlternateStack;
  next_sigaction();
  next_pthread_create();
}
using BeforeMain = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] const BeforeMain prepare_before_main = prepare;

}  // namespace

extern "C" {

int sigaction(int number, const struct sigaction* action, struct sigaction* before) noexcept {
  if (action == nullptr) return next_sigaction()(number, nullptr, before);
  struct sigaction with_stack = *action;
  with_stack.sa_flags |= SA_ONSTACK;
  return next_sigaction()(number, &with_stack, before);
}

// As the C library's, in terms of the above.
sighandler_t signal(int number, sighandler_t handler) noexcept {
  struct sigaction action = {}, before = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaddset(&action.sa_mask, number) != 0) return SIG_ERR;
  return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

// The name of signal() in strict ISO C.
sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  struct sigaction action = {}, before = {};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  sigemptyset(&action.sa_mask);
  return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*routine)(void*),
                   void* argument) noexcept {
  const AllBlocked here;
  std::unique_ptr<Start> start(new (std::nothrow) Start{routine, argument, here.mask()});
  if (start == nullptr) return EAGAIN;
  sigset_t wanted;
  if (attributes != nullptr && ::pthread_attr_getsigmask_np(attributes, &wanted) == 0) {
    start->mask = wanted;
  }
  const int failure =
      next_pthread_create()(thread, attributes, run_with_alternate_stack, start.get());
  if (failure == 0) start.release();
  return failure;
}

}  // extern "C"
