#include "io/system_calls.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace ptb::test {
namespace {

// Other threads, such as those of libraries, may call as well.
std::mutex mutex;
bool is_noting = false;
bool is_faulty = false;
Call faulty_call;
int fault_error, fault_number;
bool fault_lasts, has_fault_come;
std::vector<Call> calls;

void begin(bool with_fault) {
  const std::lock_guard lock(mutex);
  is_noting = true;
  is_faulty = with_fault;
  has_fault_come = false;
  calls.clear();
}

// Records the call. Returns 0 if it is to be made, else what is to happen instead.
int fault_of(Call call) {
  const std::lock_guard lock(mutex);
  if (!is_noting) return 0;
  calls.push_back(call);
  if (!is_faulty || call != faulty_call) return 0;
  const auto number = std::ranges::count(calls, call);
  if (number != fault_number && !(fault_lasts && number > fault_number)) return 0;
  has_fault_come = true;
  if (fault_error == kKill) ::kill(::getpid(), SIGKILL);
  return fault_error;
}

// The C library's function of that name.
template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// -1 with errno for a fault, else what the function answers.
template <class Function, class... Arguments>
int passed_on(Call call, const char* name, Arguments... arguments) {
  const int fault = fault_of(call);
  if (fault == 0) return real<Function>(name)(arguments...);
  // A descriptor is closed even if close tells of an error.
  if (call == Call::close) real<Function>(name)(arguments...);
  errno = fault;
  return -1;
}

}  // namespace

SystemCalls::SystemCalls() { begin(false); }
SystemCalls::SystemCalls(Call call, int error, int number, bool lasts) {
  faulty_call = call;
  fault_error = error;
  fault_number = number;
  fault_lasts = lasts;
  begin(true);
}
SystemCalls::~SystemCalls() {
  const std::lock_guard lock(mutex);
  is_noting = false;
}

const std::vector<Call>& SystemCalls::seen() const { return calls; }
int SystemCalls::count(Call call) const {
  return static_cast<int>(std::ranges::count(calls, call));
}
bool SystemCalls::has_failed() const { return has_fault_come; }

}  // namespace ptb::test

using namespace ptb::test;

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    std::va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return passed_on<int(const char*, int, mode_t)>(Call::open, "open", path, flags, mode);
}

ssize_t write(int file, const void* bytes, std::size_t count) {
  const auto real_write = real<ssize_t(int, const void*, std::size_t)>("write");
  const int fault = fault_of(Call::write);
  if (fault == 0) return real_write(file, bytes, count);
  if (fault == kShort) return real_write(file, bytes, (count + 1) / 2);
  errno = fault;
  return -1;
}

int fsync(int file) { return passed_on<int(int)>(Call::fsync, "fsync", file); }
int close(int file) { return passed_on<int(int)>(Call::close, "close", file); }
int rename(const char* from, const char* to) noexcept {
  return passed_on<int(const char*, const char*)>(Call::rename, "rename", from, to);
}
int unlink(const char* path) noexcept {
  return passed_on<int(const char*)>(Call::unlink, "unlink", path);
}
int flock(int file, int operation) noexcept {
  return passed_on<int(int, int)>(Call::flock, "flock", file, operation);
}
}
