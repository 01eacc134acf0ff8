#include "ptb_dist/base/console.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <string>

#include "ptb_dist/base/awake_clock.hpp"

namespace ptb {
namespace {

using namespace std::chrono_literals;
using console::Stream;

// Standard output is this, and then what it was.
class Output {
 public:
  explicit Output(int descriptor) : saved_(::dup(STDOUT_FILENO)) {
    ::dup2(descriptor, STDOUT_FILENO);
  }
  ~Output() {
    console::flush(0ms);
    ::dup2(saved_, STDOUT_FILENO);
    ::close(saved_);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

 private:
  int saved_;
};

// Reads what is there without waiting, while the console offers more of its waiting text.
std::string all_of(int descriptor) {
  ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
  std::string text;
  std::array<char, 1 << 16> piece{};
  for (;;) {
    console::flush(0ms);
    const ssize_t got = ::read(descriptor, piece.data(), piece.size());
    if (got <= 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

// [reading, writing]
std::array<int, 2> pipe_of_a_page() {
  std::array<int, 2> ends{};
  BOOST_REQUIRE_EQUAL(::pipe(ends.data()), 0);
  ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  return ends;
}

std::array<int, 2> sockets() {
  std::array<int, 2> ends{};
  BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  return ends;
}

std::string line_of(int number) { return std::to_string(number) + std::string(93, 'x') + "\n"; }

BOOST_AUTO_TEST_SUITE(console_suite)

BOOST_AUTO_TEST_CASE(what_nobody_reads_is_kept_and_comes_in_order) {
  for (const auto& ends : {pipe_of_a_page(), sockets()}) {
    std::string expected, seen;
    {
      const Output output(ends[1]);
      for (int number = 10'000; number < 18'000; ++number) {
        expected += line_of(number);
        console::write(Stream::out, line_of(number));
      }
      BOOST_TEST(!console::write_if_idle(Stream::out, "of the moment"));
      const AwakeClock::time_point begin = AwakeClock::now();
      console::flush(50ms);
      BOOST_TEST((AwakeClock::now() - begin >= 50ms));
      seen = all_of(ends[0]);
      BOOST_TEST(console::write_if_idle(Stream::out, "of the moment"));
      seen += all_of(ends[0]);
    }
    BOOST_TEST((seen == expected + "of the moment"));
    for (const int end : ends) ::close(end);
  }
}

BOOST_AUTO_TEST_CASE(beyond_a_mebibyte_lines_are_left_out_and_counted) {
  const auto ends = pipe_of_a_page();
  std::string seen;
  constexpr int kLines = 20'000;
  {
    const Output output(ends[1]);
    for (int number = 0; number < kLines; ++number) {
      console::write(Stream::out, line_of(10'000 + number));
    }
    seen = all_of(ends[0]);
  }
  for (const int end : ends) ::close(end);
  const std::size_t kept = seen.find("ptb_dist: warning: ") / line_of(10'000).size();
  BOOST_TEST(kept * line_of(10'000).size() > std::size_t{1} << 20);
  BOOST_TEST(
      seen.ends_with("x\nptb_dist: warning: " + std::to_string(kLines - kept) +
                     " lines are missing here, because nobody read them; log.txt has them\n"));
}

BOOST_AUTO_TEST_CASE(no_result_is_left_out) {
  const auto ends = pipe_of_a_page();
  const std::string text(std::size_t{3} << 20, 'x');
  std::string seen;
  {
    const Output output(ends[1]);
    BOOST_TEST(console::print(text) == 0);
    BOOST_TEST(console::print("last\n") == 0);
    seen = all_of(ends[0]);
  }
  for (const int end : ends) ::close(end);
  BOOST_TEST((seen == text + "last\n"));
}

BOOST_AUTO_TEST_CASE(a_result_that_the_system_refuses_is_told) {
  const int full = ::open("/dev/full", O_WRONLY);
  BOOST_REQUIRE(full >= 0);
  {
    const Output output(full);
    BOOST_TEST(console::print("a result\n") == ENOSPC);
  }
  ::close(full);
}

BOOST_AUTO_TEST_CASE(a_reader_that_leaves_is_no_error) {
  const auto ends = sockets();  // a write to a pipe without a reader ends a test with SIGPIPE
  const Output output(ends[1]);
  for (int number = 0; number < 8000; ++number) console::write(Stream::out, line_of(number));
  ::close(ends[0]);
  console::write(Stream::out, "nobody\n");
  BOOST_TEST(console::write_if_idle(Stream::out, "nobody"));
  ::close(ends[1]);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
