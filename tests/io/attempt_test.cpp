#include "ptb_dist/io/attempt.hpp"

#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdlib>
#include <regex>

#include "io/scratch.hpp"
#include "io/system_calls.hpp"

using namespace ptb;
using namespace ptb::test;

namespace {

using enum AttemptFile::State;

// The variables that say which attempt this is; unset where null.
void set_environment(const char* attempt, const char* job, const char* restarts) {
  const auto set = [](const char* name, const char* value) {
    value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
  };
  set("PTB_DIST_ATTEMPT", attempt);
  set("SLURM_JOB_ID", job);
  set("SLURM_RESTART_COUNT", restarts);
}

struct Environment {
  Environment(const char* attempt, const char* job, const char* restarts) {
    set_environment(attempt, job, restarts);
  }
  ~Environment() { set_environment(nullptr, nullptr, nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
};

std::string attempt_in(const char* attempt, const char* job, const char* restarts) {
  const Environment environment(attempt, job, restarts);
  return attempt_of_this_process();
}

struct Folder {
  Scratch scratch{};
  RunDirectory directory{scratch / "run", "small", RunDirectory::Purpose::start};

  std::string file() const { return content(directory.file(".attempt")); }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(attempt)

BOOST_AUTO_TEST_CASE(it_is_what_the_batch_script_says_or_the_scheduler) {
  BOOST_TEST(attempt_in("17.2.1", nullptr, nullptr) == "17.2.1");
  BOOST_TEST(attempt_in("17.2.1", "99", "5") == "17.2.1");
  BOOST_TEST(attempt_in(nullptr, "99", nullptr) == "99.0.0");
  BOOST_TEST(attempt_in(nullptr, "99", "5") == "99.5.0");
  for (const char* wrong : {"", "17", "17.2", "17.2.1.0", "17.2.x", "17.2.1 ", "-1.0.0", "a.0.0"}) {
    BOOST_TEST(attempt_in(wrong, "99", "5") == "99.5.0", wrong);
  }
}

BOOST_AUTO_TEST_CASE(in_no_job_it_names_the_process) {
  for (const char* job : {static_cast<const char*>(nullptr), "", "17_4", "a b"}) {
    const std::string attempt = attempt_in(nullptr, job, "5");
    BOOST_TEST(
        std::regex_match(attempt, std::regex("[^ ]*:" + std::to_string(::getpid()) + ":[0-9]+")),
        attempt);
  }
}

BOOST_AUTO_TEST_CASE(the_file_tells_who_runs_and_how_it_ended) {
  const Environment environment("17.2.0", nullptr, nullptr);
  const Folder folder;
  const AttemptFile file(folder.directory);
  const std::string running = folder.file();
  const std::regex pattern(
      "17\\.2\\.0 generation=0 host=[^ ]+ pid=" + std::to_string(::getpid()) +
      " since=20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ state=running code=-\n");
  BOOST_TEST(std::regex_match(running, pattern), running);
  const std::string begin = running.substr(0, running.find("running"));
  const std::pair<AttemptFile::State, std::string> ends[] = {{finished, "finished code=0\n"},
                                                             {max_windows, "max_windows code=0\n"}};
  for (const auto& [state, text] : ends) {
    file.ends(state, ExitCode::done);
    BOOST_TEST(folder.file() == begin + text);
  }
  file.ends(stopped, ExitCode::stopped);
  BOOST_TEST(folder.file() == begin + "stopped code=75\n");
  file.fails(ExitCode::diverged);
  BOOST_TEST(folder.file() == begin + "failed code=76\n");
}

BOOST_AUTO_TEST_CASE(a_later_attempt_keeps_what_it_wrote) {
  const Folder folder;
  const auto written = [&](const char* attempt) {
    const Environment environment(attempt, nullptr, nullptr);
    return AttemptFile(folder.directory);
  };
  const AttemptFile old = written("17.2.0");
  const AttemptFile next = written("17.2.1");
  const std::string before = folder.file();
  old.ends(finished, ExitCode::done);
  old.fails(ExitCode::internal);
  BOOST_TEST(folder.file() == before);
  next.ends(finished, ExitCode::done);
  BOOST_TEST(folder.file() != before);
}

BOOST_AUTO_TEST_CASE(a_disk_that_does_not_take_it_is_told_but_not_over_another_error) {
  const Folder folder;
  const AttemptFile file(folder.directory);
  const std::string before = folder.file();
  {
    const SystemCalls calls(Call::write, EIO);
    const Failure failure = failure_of([&] { file.ends(finished, ExitCode::done); });
    BOOST_TEST(failure.code == 74);
    BOOST_TEST(failure.names(".attempt: Input/output error"), failure.line);
  }
  const SystemCalls calls(Call::write, EIO);
  file.fails(ExitCode::internal);
  BOOST_TEST(folder.file() == before);
}

BOOST_AUTO_TEST_SUITE_END()
