// A message names a limit of the system with its value. Limits are set in a child, because most of
// them cannot be raised again.
#include "ptb_dist/base/limits.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <functional>
#include <new>
#include <system_error>

#include "base/complaints.hpp"
#include "ptb_dist/base/file.hpp"

namespace ptb {
namespace {

struct Ended {
  int code = 0;
  std::string line;
};

// What the work threw in a child.
Ended in_child(const std::function<void()>& work) {
  std::array<int, 2> ends{};
  BOOST_REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    int code = 0;
    std::string line;
    try {
      work();
    } catch (...) {
      const Error error = error_in_flight();
      code = static_cast<int>(error.code());
      line = error.lines().front();
    }
    const ssize_t written = ::write(ends[1], line.data(), line.size());
    ::_exit(written == std::ssize(line) ? code : 1);
  }
  ::close(ends[1]);
  Ended ended;
  std::array<char, 4096> text{};
  for (ssize_t got = 0; (got = ::read(ends[0], text.data(), text.size())) > 0;) {
    ended.line.append(text.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

void set_limit(decltype(RLIMIT_AS) what, rlim_t value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  if (::setrlimit(what, &limit) != 0) ::_exit(1);
}

// Root has no limit on threads, so this becomes another user. False if it may not.
bool is_counted() { return ::getuid() != 0 || ::setuid(61234) == 0; }

std::size_t address_space() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void check_missing(const Ended& ended, const std::vector<std::string>& words) {
  BOOST_TEST(ended.code == 69, ended.line);
  for (const std::string& word : words) BOOST_TEST(contains(ended.line, word), ended.line);
}

BOOST_AUTO_TEST_SUITE(limits)

BOOST_AUTO_TEST_CASE(without_limits_all_is_well) {
  BOOST_TEST(in_child([] { require_room_for_mpi(true); }).code == 0);
  BOOST_TEST(in_child([] { require_threads(0, "nothing"); }).code == 0);
}

BOOST_AUTO_TEST_CASE(files) {
  check_missing(in_child([] {
                  set_limit(RLIMIT_NOFILE, 12);
                  require_room_for_mpi(false);
                }),
                {"MPI cannot be started", "at most 12 open files (ulimit -n)", "ulimit -n 1024"});
  check_missing(in_child([] {
                  set_limit(RLIMIT_NOFILE, 0);
                  open_regular("/proc/self/statm");
                }),
                {"cannot open: /proc/self/statm", "at most 0 open files (ulimit -n)"});
}

BOOST_AUTO_TEST_CASE(threads) {
  const auto become_counted = [] {
    if (!is_counted()) throw Error(ExitCode::usage, Complaint{.what = "no right to"});
  };
  if (in_child(become_counted).code != 0) {
    BOOST_TEST_MESSAGE("skipped: root may not become another user here");
    return;
  }
  const std::string limit = "at most 1 processes and threads of this user (ulimit -u)";
  check_missing(in_child([] {
                  is_counted();
                  set_limit(RLIMIT_NPROC, 1);
                  require_threads(3, "3 threads");
                }),
                {"3 threads cannot be started", limit, "fewer --threads"});
  check_missing(in_child([] {
                  is_counted();
                  set_limit(RLIMIT_NPROC, 1);
                  require_room_for_mpi(false);
                }),
                {"MPI cannot be started", limit});
}

BOOST_AUTO_TEST_CASE(as_many_threads_as_start) {
  BOOST_TEST(IdleThreads(0).count() == 0);
  BOOST_TEST(IdleThreads(20).count() == 20);
  BOOST_TEST(IdleThreads(20).failure() == 0);
  const Ended ended = in_child([] {
    // Room in the address space for the stacks of a few more.
    rlimit stack{};
    ::getrlimit(RLIMIT_STACK, &stack);
    if (stack.rlim_cur == RLIM_INFINITY) stack.rlim_cur = 2 << 20;  // what threads then have
    set_limit(RLIMIT_AS, address_space() + 4 * stack.rlim_cur);
    const IdleThreads threads(1000);
    if (threads.count() < 1 || threads.count() > 999 || threads.failure() == 0) ::_exit(1);
  });
  BOOST_TEST(ended.code == 0, ended.line);
}

BOOST_AUTO_TEST_CASE(memory) {
  check_missing(in_child([] {
                  set_limit(RLIMIT_AS, address_space() + (std::size_t{200} << 20));
                  require_room_for_mpi(false);
                }),
                {"MPI cannot be started", "of address space (ulimit -v)"});
  check_missing(in_child([] {
                  set_limit(RLIMIT_AS, address_space() + (std::size_t{200} << 20));
                  throw std::bad_alloc();
                }),
                {"out of memory", "of address space (ulimit -v)", "raise the limit"});
}

BOOST_AUTO_TEST_CASE(what_is_thrown_has_its_code) {
  const auto code_of = [](const std::function<void()>& work) { return in_child(work).code; };
  BOOST_TEST(code_of([] { throw std::bad_alloc(); }) == 69);
  BOOST_TEST(code_of([] { throw std::system_error(EAGAIN, std::generic_category(), "thread"); }) ==
             69);
  BOOST_TEST(code_of([] { throw std::system_error(EINVAL, std::generic_category(), "thread"); }) ==
             70);
  BOOST_TEST(code_of([] { throw std::runtime_error("defect"); }) == 70);
  BOOST_TEST(code_of([] { throw 3; }) == 70);
  BOOST_TEST(code_of([] { throw Error(ExitCode::io, Complaint{.what = "disk"}); }) == 74);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
