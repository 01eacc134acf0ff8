#include "ptb_dist/base/awake_clock.hpp"

#include <boost/test/unit_test.hpp>
#include <thread>
#include <vector>

namespace ptb {
namespace {

using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(awake_clock)

BOOST_AUTO_TEST_CASE(small_steps_are_counted_and_of_an_absence_the_longest_step) {
  AwakeTime time(250ms, 1000s);
  const struct {
    AwakeTime::Duration real, awake;
  } looks[] = {
      {1000s, 1000s},
      {1000s + 50ms, 1000s + 50ms},
      {1000s + 300ms, 1000s + 300ms},  // a step of just the longest
      {1007s + 300ms, 1000s + 550ms},  // away for 7 s
      {1007s + 300ms, 1000s + 550ms},  // two threads look at once
      {1007s + 310ms, 1000s + 560ms},
      {4607s + 310ms, 1000s + 810ms},  // away for an hour
      {4607s + 320ms, 1000s + 820ms},
  };
  for (const auto& [real, awake] : looks) BOOST_TEST((time.at(real) == awake));
}

// As a rank that waits for another: a deadline of 2 s, checked every millisecond.
BOOST_AUTO_TEST_CASE(a_deadline_outlives_every_absence_and_is_kept_without_one) {
  for (const std::vector<AwakeTime::Duration>& absences :
       {std::vector<AwakeTime::Duration>{}, {7s}, {0s, 24h, 7s}}) {
    AwakeTime time(250ms, 0s);
    AwakeTime::Duration real = 0s, absent = 0s;
    int looks = 0;
    while (time.at(real) <= 2s) {
      real += 1ms;
      if (looks % 100 == 50 && looks / 100 < std::ssize(absences)) {
        real += absences[static_cast<std::size_t>(looks / 100)];
        absent += absences[static_cast<std::size_t>(looks / 100)];
      }
      ++looks;
    }
    const AwakeTime::Duration ran = real - absent;
    BOOST_TEST((ran <= 2s + 1ms));
    BOOST_TEST((ran > 2s - std::ssize(absences) * 250ms));
  }
}

// The clock's own thread looks. Two looks of the test alone would count the longest step, 0.25 s.
BOOST_AUTO_TEST_CASE(the_clock_goes_on_although_nobody_looks) {
  const auto begin = AwakeClock::now();
  std::this_thread::sleep_for(1500ms);
  BOOST_TEST((AwakeClock::now() - begin >= 500ms));
}

BOOST_AUTO_TEST_CASE(a_wait_is_asked_once_more_at_its_end) {
  const auto begin = AwakeClock::now();
  sleep_awake(100ms);
  BOOST_TEST((AwakeClock::now() - begin >= 100ms));
  BOOST_TEST(wait_awake(0s, [](AwakeClock::duration) { return true; }));
  BOOST_TEST(!wait_awake(0s, [](AwakeClock::duration) { return false; }));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
