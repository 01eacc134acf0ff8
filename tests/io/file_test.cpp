// If any system call of a write fails in any way, the file is the old one or the new one, complete.
#include "io/files/file.hpp"

#include <signal.h>
#include <sys/resource.h>

#include <fmt/format.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <span>

#include "io/scratch.hpp"
#include "io/system_calls.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

// Four pieces, the last one short.
const std::string kNew(3 * (std::size_t{1} << 20) + 5, 'n');

void replace(const fs::path& path) {
  replace_file("checkpoint", path, std::as_bytes(std::span(kNew)));
}

std::string temporary_name(const std::string& host, long process) {
  return ".a.h5.tmp." + host + "." + std::to_string(process);
}

// A number that no process has.
pid_t gone_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(replacing_a_file)

// What is written after the rename, or synced after it, may be lost at a power cut while the new
// name stays.
BOOST_AUTO_TEST_CASE(bytes_are_on_the_disk_before_they_have_the_name) {
  const Scratch scratch;
  const SystemCalls calls;
  replace(scratch / "a.h5");
  using enum Call;
  const std::vector<Call> expected = {unlink, open,  write,  write, write, write,
                                      fsync,  close, rename, open,  fsync, close};
  BOOST_TEST((calls.seen() == expected));
  BOOST_TEST(content(scratch / "a.h5") == kNew);
}

BOOST_AUTO_TEST_CASE(every_failure_is_told_and_leaves_the_old_or_the_new) {
  const struct {
    Call call;
    std::vector<int> errors;
  } faults[] = {{Call::open, {EMFILE, ENOSPC, EDQUOT, EROFS, EACCES}},
                {Call::write, {ENOSPC, EDQUOT, EIO, EFBIG}},
                {Call::fsync, {EIO, ENOSPC, EDQUOT}},
                {Call::close, {EIO, EDQUOT}},
                {Call::rename, {EROFS, EIO, ENOSPC}}};
  int made = 0;
  for (const auto& [call, errors] : faults) {
    for (const int error : errors) {
      for (const bool lasts : {false, true}) {
        for (int number = 1;; ++number) {
          const Scratch scratch;
          put(scratch / "a.h5", "old");
          bool has_failed = false, is_renamed = false;
          const Failure failure = failure_of([&] {
            const SystemCalls calls(call, error, number, lasts);
            try {
              replace(scratch / "a.h5");
            } catch (const Error&) {
              has_failed = calls.has_failed();
              is_renamed = calls.count(Call::rename) == 1 && call != Call::rename;
              throw;
            }
            has_failed = calls.has_failed();
            is_renamed = true;
          });
          const std::string found = content(scratch / "a.h5");
          BOOST_TEST(names_in(scratch.path()).size() == 1u);
          BOOST_TEST((found == (is_renamed ? kNew : "old")));
          if (!has_failed) break;
          ++made;
          // The last close is of the folder, for reading: nothing can be lost by it.
          if (call == Call::close && is_renamed) continue;
          BOOST_TEST(failure.code ==
                     (error == EMFILE ? 69 : 74));  // a limit is no fault of the disk
          BOOST_TEST(failure.names(scratch / "a.h5"), failure.line);
          BOOST_TEST(failure.names(std::strerror(error)), failure.line);
          BOOST_TEST(failure.names("; "), failure.line << " has no remedy");
        }
      }
    }
  }
  BOOST_TEST(made == 2 * (5 * 2 + 4 * 4 + 3 * 2 + 2 * 2 + 3));
}

BOOST_AUTO_TEST_CASE(interruptions_and_short_writes_are_not_seen) {
  const struct {
    Call call;
    int error;
  } faults[] = {
      {Call::write, EINTR}, {Call::write, kShort}, {Call::fsync, EINTR}, {Call::close, EINTR}};
  for (const auto& [call, error] : faults) {
    for (int number = 1; number <= 4; ++number) {
      const Scratch scratch;
      put(scratch / "a.h5", "old");
      {
        const SystemCalls calls(call, error, number);
        replace(scratch / "a.h5");
      }
      BOOST_TEST((content(scratch / "a.h5") == kNew));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_kill_leaves_the_old_or_the_new_and_what_is_swept_away) {
  int kills = 0, temporaries = 0, renamed = 0;
  for (const Call call : kCalls) {
    for (int number = 1;; ++number) {
      const Scratch scratch;
      put(scratch / "a.h5", "old");
      const int code = code_in_child([&] {
        const SystemCalls calls(call, kKill, number);
        replace(scratch / "a.h5");
      });
      if (code == 0) break;
      ++kills;
      BOOST_TEST(code == 128 + SIGKILL);
      const std::string found = content(scratch / "a.h5");
      BOOST_TEST((found == "old" || found == kNew));
      if (found == kNew) ++renamed;
      temporaries += static_cast<int>(names_in(scratch.path()).size()) - 1;
      remove_stale_temporaries(scratch.path());
      BOOST_TEST(names_in(scratch.path()).size() == 1u);
    }
  }
  BOOST_TEST(kills == 12);
  BOOST_TEST(renamed == 3);      // at what comes after the rename
  BOOST_TEST(temporaries == 7);  // at four writes, fsync, close and rename
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_told_with_numbers) {
  const Scratch scratch;
  const SystemCalls calls(Call::write, ENOSPC, 3);
  const Failure failure = failure_of([&] { replace(scratch / "a.h5"); });
  BOOST_TEST(failure.names("(3.1 MB needed, "), failure.line);
}

BOOST_AUTO_TEST_CASE(a_limit_on_files_is_told_with_its_remedy) {
  const Scratch scratch;
  put(scratch / "a.h5", "old");
  const int code = code_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Failure failure = failure_of([&] { replace(scratch / "a.h5"); });
    std::exit(failure.names("ulimit -f") ? failure.code : 1);
  });
  BOOST_TEST(code == 74);
  BOOST_TEST(content(scratch / "a.h5") == "old");
  BOOST_TEST(names_in(scratch.path()).size() == 1u);
}

// Otherwise a user who can write to the folder could make us write to a file in another place.
BOOST_AUTO_TEST_CASE(a_link_in_the_place_of_the_temporary_file_is_not_followed) {
  const Scratch scratch;
  put(scratch / "other", "theirs");
  fs::create_symlink("other", scratch / temporary_name(host_name(), ::getpid()));
  {
    const SystemCalls calls(Call::unlink, EACCES, 1, true);
    BOOST_TEST(failure_of([&] { replace(scratch / "a.h5"); }).names("File exists"));
  }
  BOOST_TEST(content(scratch / "other") == "theirs");
  replace(scratch / "a.h5");
  BOOST_TEST(content(scratch / "other") == "theirs");
  BOOST_TEST(!fs::is_symlink(scratch / "a.h5"));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(only_temporary_files_of_dead_processes_of_this_host_go) {
  const Scratch scratch;
  const long gone = gone_process();
  const std::set<std::string> stay = {
      temporary_name(host_name(), ::getpid()),
      temporary_name(host_name(), 1),
      temporary_name("other", gone),
      temporary_name(host_name(), gone) + "x",
      temporary_name(host_name(), -gone),
      temporary_name(host_name(), 0),
      temporary_name(host_name(), gone).substr(1),
      "a.h5",
      ".lock",
  };
  for (const std::string& name : stay) put(scratch / name, "");
  put(scratch / temporary_name(host_name(), gone), "");
  put(scratch / fmt::format(".{}", temporary_name(host_name(), gone)), "");
  remove_stale_temporaries(scratch.path());
  const std::vector<std::string> found = names_in(scratch.path());
  BOOST_TEST((std::set(found.begin(), found.end()) == stay));
  remove_stale_temporaries(scratch / "nowhere");
}
