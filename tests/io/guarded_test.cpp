#include "io/files/guarded.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <limits>
#include <vector>

#include "io/scratch.hpp"

using namespace ptb;
using namespace ptb::test;

namespace {

const Subject kSubject{.code = ExitCode::bad_data, .what = "file", .where = "a.h5"};
constexpr GuardLimits kLimits{.memory = std::size_t{64} << 20, .seconds = 1};

Failure failure_of_guarded(const std::function<void()>& work) {
  return failure_of([&] {
    run_guarded(kSubject, kLimits, [&] {
      work();
      return std::string();
    });
  });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(guarded)

BOOST_AUTO_TEST_CASE(good_work_leaves_nothing_behind) {
  int changed = 0;
  BOOST_TEST(failure_of_guarded([&] { changed = 1; }).line == "");
  BOOST_TEST(changed == 0);
}

BOOST_AUTO_TEST_CASE(results_come_through) {
  for (const std::size_t size : {0, 1, 1'000'000}) {
    const std::string result(size, '\0');
    BOOST_TEST((run_guarded(kSubject, kLimits, [&] { return result; }) == result));
  }
  // The work had no memory for so many bytes, so they cannot be its result.
  BOOST_TEST(failure_of([] {
               run_guarded(kSubject, {.memory = 1000, .seconds = 1},
                           [] { return std::string(1001, 'x'); });
             }).code == 65);
}

BOOST_AUTO_TEST_CASE(errors_come_through) {
  const Failure failure = failure_of_guarded([] {
    throw Error(ExitCode::missing, {.what = "a", .where = "b\n", .why = "c", .remedy = "d"});
  });
  BOOST_TEST(failure.code == 69);
  BOOST_TEST(failure.line == "a: b\\x0a: c; d");
  BOOST_TEST(failure_of_guarded([] { throw std::runtime_error("odd"); }).line == "file: a.h5: odd");
}

BOOST_AUTO_TEST_CASE(a_crash_is_an_error) {
  for (const auto& [number, name] :
       {std::pair{SIGSEGV, "SIGSEGV"}, std::pair{SIGFPE, "SIGFPE"}, std::pair{SIGABRT, "SIGABRT"},
        std::pair{SIGKILL, "SIGKILL"}}) {
    const Failure failure = failure_of_guarded([n = number] { std::raise(n); });
    BOOST_TEST(failure.code == 65);
    BOOST_TEST(failure.line ==
               "file: a.h5: reading it ended by " + std::string(name) + " in the HDF5 library");
  }
  BOOST_TEST(failure_of_guarded([] { ::_exit(0); }).names("reading it ended the process"));
}

// A launcher sends them to all processes of a job; that must not make the file seem bad.
BOOST_AUTO_TEST_CASE(a_request_to_stop_is_not_for_the_child) {
  for (const int number : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP}) {
    BOOST_TEST(failure_of_guarded([number] { std::raise(number); }).code == 0);
  }
}

BOOST_AUTO_TEST_CASE(an_endless_loop_is_an_error) {
  const Failure failure = failure_of_guarded([] {
    const std::atomic<bool> goes_on{true};
    while (goes_on) {
    }
  });
  BOOST_TEST(failure.line == "file: a.h5: reading it takes longer than its size explains");
}

BOOST_AUTO_TEST_CASE(endless_waiting_is_an_error) {
  const Failure failure = failure_of([&] {
    run_guarded(kSubject, {.memory = 1 << 20, .seconds = 0}, []() -> std::string {
      for (;;) ::pause();
    });
  });
  BOOST_TEST(failure.line == "file: a.h5: reading it takes longer than its size explains");
}

BOOST_AUTO_TEST_CASE(memory_and_files_are_limited) {
  // Under a sanitizer, which ends the process itself, the reason is another.
  BOOST_TEST(failure_of_guarded([] {
               const std::vector<char> much(std::size_t{1} << 30, 'x');
               if (much.back() != 'x') throw std::runtime_error("lost");
             }).code == 65);
  BOOST_TEST(failure_of_guarded([] {
               const std::vector<char> some(std::size_t{1} << 20, 'x');
               if (some.back() != 'x') throw std::runtime_error("lost");
             }).code == 0);
  const Scratch scratch;
  const std::string path = scratch / "written";
  BOOST_TEST(failure_of_guarded([&] {
               std::signal(SIGXFSZ, SIG_IGN);
               const int file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
               if (::write(file, "x", 1) != 1) throw std::runtime_error("refused");
             }).names("refused"));
}

BOOST_AUTO_TEST_SUITE_END()
