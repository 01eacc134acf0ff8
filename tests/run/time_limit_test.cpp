#include "ptb_dist/run/time_limit.hpp"

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

using namespace ptb;
using namespace std::chrono_literals;

namespace {

constexpr double kHour = 3600;

StopAfter stop_after(double seconds) { return {.seconds = seconds, .text = "TEXT"}; }

// A limit under way, and the reason by which it asks to stop.
class Watched {
 public:
  explicit Watched(TimeLimits limits, double seconds_to_leave = 0)
      : limit_(
            std::move(limits), [seconds_to_leave] { return seconds_to_leave; },
            [this](const std::string& why) { reason_.set_value(why); }) {}

  bool asks_within(std::chrono::milliseconds patience) {
    return asked_.wait_for(patience) == std::future_status::ready;
  }
  // The test hangs, and ctest ends it, if it never asks.
  std::string reason() { return asked_.get(); }

 private:
  std::promise<std::string> reason_;
  std::future<std::string> asked_ = reason_.get_future();
  TimeLimit limit_;
};

// Writes the end of a job that has so many seconds left, as the batch script does.
class EndFile {
 public:
  EndFile() {
    std::string pattern = std::filesystem::temp_directory_path() / "ptb_dist_end_XXXXXX";
    BOOST_TEST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
  }
  ~EndFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EndFile(const EndFile&) = delete;
  EndFile& operator=(const EndFile&) = delete;

  std::filesystem::path path() const { return folder_ / "end"; }
  void put(const std::string& text) const {
    const std::filesystem::path beside = folder_ / "new";
    std::ofstream(beside) << text;
    std::filesystem::rename(beside, path());
  }
  void put_seconds_left(std::int64_t seconds) const {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    put(std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count() + seconds) +
        "\n");
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(time_limit)

BOOST_AUTO_TEST_CASE(it_asks_when_the_time_is_over) {
  // The process may be older than a second, or not.
  BOOST_TEST(Watched({.stop_after = stop_after(1)}).reason() == "--stop-after TEXT");
}

BOOST_AUTO_TEST_CASE(it_asks_so_early_that_a_save_fits_twice) {
  BOOST_TEST(Watched({.stop_after = stop_after(kHour)}, kHour / 2).reason() == "--stop-after TEXT");
}

BOOST_AUTO_TEST_CASE(it_does_not_ask_while_there_is_time) {
  BOOST_TEST(!Watched({.stop_after = stop_after(kHour)}).asks_within(50ms));
  BOOST_TEST(!Watched({.stop_after = stop_after(kHour)}, kHour / 4).asks_within(50ms));
}

BOOST_AUTO_TEST_CASE(without_a_limit_nobody_asks) { BOOST_TEST(!Watched({}).asks_within(50ms)); }

BOOST_AUTO_TEST_CASE(the_end_of_a_job_comes_from_a_file) {
  const EndFile file;
  file.put_seconds_left(1);
  BOOST_TEST(Watched({.end_file = file.path()}).reason() == "the end of the job's time");
  file.put_seconds_left(3600);
  BOOST_TEST(!Watched({.end_file = file.path()}).asks_within(50ms));
}

BOOST_AUTO_TEST_CASE(the_file_may_come_late_and_change) {
  const EndFile file;
  Watched watched({.end_file = file.path()});
  BOOST_TEST(!watched.asks_within(20ms));
  file.put_seconds_left(3600);
  BOOST_TEST(!watched.asks_within(1500ms));  // it has been read
  file.put_seconds_left(0);
  BOOST_TEST(watched.reason() == "the end of the job's time");
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_no_limit) {
  const EndFile file;
  for (const char* text : {"", "\n", "Unknown\n", "nan\n"}) {
    file.put(text);
    BOOST_TEST(!Watched({.end_file = file.path()}).asks_within(20ms), text);
  }
}

BOOST_AUTO_TEST_CASE(the_first_of_two_limits_counts) {
  const EndFile file;
  file.put_seconds_left(3600);
  BOOST_TEST(Watched({.stop_after = stop_after(1), .end_file = file.path()}).reason() ==
             "--stop-after TEXT");
  file.put_seconds_left(1);
  BOOST_TEST(Watched({.stop_after = stop_after(kHour), .end_file = file.path()}).reason() ==
             "the end of the job's time");
}

BOOST_AUTO_TEST_SUITE_END()
