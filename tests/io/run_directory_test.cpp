#define BOOST_TEST_MODULE io
#include "ptb_dist/io/run_directory.hpp"

#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "io/files/file.hpp"
#include "io/scratch.hpp"
#include "io/system_calls.hpp"
#include "support/requirements.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

using enum RunDirectory::Purpose;

ResolvedConfig some_config() {
  ResolvedConfig config;
  config.name = "small";
  config.values.learning_rate = 0.1;
  config.values.seed = 42;
  return config;
}

Failure failure_at(const fs::path& path, RunDirectory::Purpose purpose = start) {
  return failure_of([&] { RunDirectory(path, "small", purpose); });
}

// All files that a run leaves, each with its own name as content, and a file that is not a run's.
void put_a_run(const fs::path& path) {
  fs::create_directories(path / "checkpoints");
  for (const char* name : {"config.toml", "log.txt", "metrics.jsonl", "manifest.json", "notes.txt",
                           "checkpoints/g0003-step-00000010.h5"}) {
    put(path / name, name);
  }
}

// Another process that has a folder's lock until it is told to end.
class Holder {
 public:
  explicit Holder(const fs::path& path) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) throw std::runtime_error("no pipe");
    process_ = ::fork();
    if (process_ == 0) {
      const RunDirectory directory(path, "small", go_on);
      [[maybe_unused]] const auto ignored = ::write(pipe[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(pipe[1]);
    char ready = 0;
    BOOST_TEST_REQUIRE(::read(pipe[0], &ready, 1) == 1);
    ::close(pipe[0]);
  }
  ~Holder() { end(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  pid_t process() const { return process_; }
  void end() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }

 private:
  pid_t process_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(run_directory)

BOOST_AUTO_TEST_CASE(config_reads_back) {
  const Scratch scratch;
  const RunDirectory directory(scratch / "a/b", "small", start);
  directory.keep(some_config());
  BOOST_TEST(directory.path() == scratch / "a/b");
  const std::string text = content(directory.file("config.toml"));
  BOOST_TEST((config_from_toml(text, "small", "config.toml").values == some_config().values));
  BOOST_TEST(names_in(directory.path()).size() == 2u);  // and .lock, but no temporary file
}

BOOST_AUTO_TEST_CASE(default_names_are_unique) {
  const Scratch scratch;
  const fs::path before = fs::current_path();
  fs::current_path(scratch.path());
  std::vector<fs::path> paths;
  for (int run = 0; run < 3; ++run) paths.push_back(RunDirectory("", "small", start).path());
  const auto found = names_in("runs").size();
  fs::current_path(before);
  BOOST_TEST(found == 3u);
  for (const fs::path& path : paths) {
    std::string name = path.string().substr(0, sizeof "runs/small-YYYYmmdd-HHMMSS" - 1);
    for (char& c : name) c = std::isdigit(static_cast<unsigned char>(c)) ? '0' : c;
    BOOST_TEST(name == "runs/small-00000000-000000");
  }
}

BOOST_AUTO_TEST_CASE(existing_folder_without_a_run_is_fine) {
  const Scratch scratch;
  put(scratch / "notes.txt", "mine");
  BOOST_TEST(failure_at(scratch.path()).code == 0);
  BOOST_TEST(content(scratch / "notes.txt") == "mine");
}

BOOST_AUTO_TEST_CASE(link_to_a_folder_is_fine) {
  const Scratch scratch;
  fs::create_directory(scratch / "real");
  fs::create_symlink("real", scratch / "link");
  BOOST_TEST(failure_at(scratch / "link").code == 0);
  RunDirectory(scratch / "link", "small", start).keep(some_config());
  BOOST_TEST(fs::exists(scratch / "real/config.toml"));
}

BOOST_AUTO_TEST_CASE(another_run_is_not_overwritten) {
  for (const char* name : {"config.toml", "metrics.jsonl", "checkpoints"}) {
    const Scratch scratch;
    BOOST_TEST(!RunDirectory::holds_a_run(scratch.path()));
    put(scratch / name, "theirs");
    BOOST_TEST(RunDirectory::holds_a_run(scratch.path()));
    const Failure failure = failure_at(scratch.path());
    BOOST_TEST(failure.code == 2);
    for (const char* part : {name, "--resume auto", "--fresh", "--run-dir"}) {
      BOOST_TEST(failure.names(part), failure.line);
    }
    BOOST_TEST(content(scratch / name) == "theirs");
  }
}

BOOST_AUTO_TEST_CASE(a_run_is_gone_on_with_where_it_lies) {
  const Scratch scratch;
  put_a_run(scratch.path());
  const RunDirectory directory(scratch.path(), "small", go_on);
  BOOST_TEST(directory.remarks().empty());
  BOOST_TEST(directory.generation() == 4);
  BOOST_TEST(directory.checkpoints().list().size() == 1u);
  BOOST_TEST(names_in(scratch.path()).size() == 7u);  // and .lock
}

BOOST_AUTO_TEST_CASE(a_run_that_is_begun_anew_moves_the_old_one_aside) {
  const Scratch scratch;
  for (int number = 1; number <= 2; ++number) {
    put_a_run(scratch.path());
    const RunDirectory directory(scratch.path(), "small", start_again);
    const std::string old = "old-" + std::to_string(number);
    BOOST_TEST_REQUIRE(directory.remarks().size() == 1u);
    BOOST_TEST(directory.remarks()[0] ==
               "run directory: the old run is now in " + (scratch / old).string() +
                   " (checkpoints, metrics.jsonl, manifest.json, log.txt, config.toml)");
    BOOST_TEST(directory.generation() == 0);
    BOOST_TEST(!RunDirectory::holds_a_run(scratch.path()));
    for (const char* name : {"config.toml", "log.txt", "metrics.jsonl", "manifest.json",
                             "checkpoints/g0003-step-00000010.h5"}) {
      BOOST_TEST(content(scratch / old / name) == name);
    }
    BOOST_TEST(content(scratch / "notes.txt") == "notes.txt");
  }
  const RunDirectory nothing_there(scratch.path(), "small", start_again);
  BOOST_TEST(nothing_there.remarks().empty());
  BOOST_TEST(!fs::exists(scratch / "old-3"));
}

// If the move is interrupted at any point, nothing is lost, and no run can resume here once the
// first file has been moved.
BOOST_AUTO_TEST_CASE(an_interrupted_move_loses_nothing) {
  for (int number = 1; number <= 5; ++number) {
    const Scratch scratch;
    put_a_run(scratch.path());
    BOOST_TEST(code_in_child([&] {
                 const SystemCalls calls(Call::rename, kKill, number);
                 RunDirectory(scratch.path(), "small", start_again);
               }) == 128 + SIGKILL);
    const RunDirectory directory(scratch.path(), "small", go_on);
    BOOST_TEST(directory.checkpoints().list().empty() == (number > 1));
    int found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(scratch.path())) {
      const std::string name = entry.path().filename();
      if (entry.is_regular_file() && name != ".lock" && name != "notes.txt") ++found;
    }
    BOOST_TEST(found == 5);
  }
  const Scratch scratch;
  put_a_run(scratch.path());
  const SystemCalls calls(Call::rename, EACCES, 2);
  const Failure failure = failure_at(scratch.path(), start_again);
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names("metrics.jsonl: Permission denied"), failure.line);
}

BOOST_AUTO_TEST_CASE(the_generation_is_above_all_that_are_there) {
  const Scratch scratch;
  const auto generation = [&] { return RunDirectory(scratch.path(), "small", go_on).generation(); };
  BOOST_TEST(generation() == 0);
  put(scratch / "manifest.json", R"({"attempts": [{"generation": 5}, {"generation": 2}]})");
  BOOST_TEST(generation() == 6);
  fs::create_directory(scratch / "checkpoints");
  put(scratch / "checkpoints/g0007-step-00000001.h5", "");
  BOOST_TEST(generation() == 8);
}

BOOST_AUTO_TEST_CASE(what_a_dead_process_left_is_removed) {
  const Scratch scratch;
  put(scratch / "config.toml", "old");
  BOOST_TEST(code_in_child([&] {
               const RunDirectory directory(scratch.path(), "small", go_on);
               const SystemCalls calls(Call::rename, kKill);
               directory.keep(some_config());
             }) == 128 + SIGKILL);
  BOOST_TEST(names_in(scratch.path()).size() == 3u);  // .lock, config.toml, the temporary one
  BOOST_TEST(content(scratch / "config.toml") == "old");
  RunDirectory(scratch.path(), "small", go_on);
  BOOST_TEST(names_in(scratch.path()).size() == 2u);
}

BOOST_AUTO_TEST_CASE(unusable_paths_are_explained) {
  const Scratch scratch;
  put(scratch / "file", "");
  fs::create_symlink("nowhere", scratch / "dangling");
  const struct {
    fs::path path;
    const char* reason;
  } cases[] = {
      {scratch / "file", "not a folder"},
      {scratch / "file/run", "Not a directory"},
      {scratch / "dangling", "symbolic link to nothing"},
      {scratch / std::string(300, 'x'), "File name too long"},
  };
  for (const auto& [path, reason] : cases) {
    const Failure failure = failure_at(path);
    BOOST_TEST(failure.code == 74);
    BOOST_TEST(failure.names(reason), failure.line);
    BOOST_TEST(failure.names(path.string().substr(0, 100)), failure.line);
    BOOST_TEST(failure.names("; "), failure.line << " has no remedy");
  }
  BOOST_TEST(!fs::exists(scratch / "nowhere"));
}

BOOST_AUTO_TEST_CASE(missing_permission, *boost::unit_test::precondition(needs_other_user)) {
  const Scratch scratch;
  fs::permissions(scratch.path(), fs::perms::all);
  fs::create_directory(scratch / "closed");
  fs::permissions(scratch / "closed", fs::perms::none);
  for (const char* name : {"closed", "closed/run"}) {
    const OtherUser user;
    const Failure failure = failure_at(scratch / name, start);
    BOOST_TEST(failure.code == 74, failure.line);
    BOOST_TEST(failure.names("Permission denied"), failure.line);
  }
  fs::permissions(scratch / "closed", fs::perms::owner_all);  // to be removed
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(run_lock)

BOOST_AUTO_TEST_CASE(a_second_job_is_told_who_is_there) {
  const Scratch scratch;
  ::setenv("SLURM_JOB_ID", "4711", 1);
  const Holder holder(scratch.path());
  ::unsetenv("SLURM_JOB_ID");
  const std::string text = content(scratch / ".lock");
  for (const auto purpose : {start, go_on, start_again}) {
    const Failure failure = failure_at(scratch.path(), purpose);
    BOOST_TEST(failure.code == 2);
    const std::string begin = "run directory: " + scratch.path().string() +
                              ": is in use by process " + std::to_string(holder.process()) +
                              " on " + host_name() + " since 20";
    BOOST_TEST(failure.line.starts_with(begin), failure.line);
    BOOST_TEST(failure.names("Z, Slurm job 4711; wait for it"), failure.line);
  }
  BOOST_TEST(content(scratch / ".lock") == text);
}

BOOST_AUTO_TEST_CASE(the_lock_ends_with_its_holder) {
  const Scratch scratch;
  put(scratch / ".lock", "somebody with a long name" + std::string(200, '.'));
  Holder killed(scratch.path());
  BOOST_TEST(failure_at(scratch.path()).code == 2);
  killed.end();
  {
    const RunDirectory mine(scratch.path(), "small", start);
    const std::string text = content(scratch / ".lock");
    BOOST_TEST(text.starts_with("process " + std::to_string(::getpid()) + " on "), text);
    BOOST_TEST(text.ends_with("Z\n"), text);
    BOOST_TEST(failure_at(scratch.path()).code == 2);
  }
  BOOST_TEST(failure_at(scratch.path()).code == 0);
}

// Otherwise a tool that is started from within the run would hold the lock.
BOOST_AUTO_TEST_CASE(programs_that_the_holder_starts_do_not_have_the_lock) {
  const Scratch scratch;
  pid_t child = 0;
  {
    const RunDirectory mine(scratch.path(), "small", start);
    std::array<int, 2> pipe{};
    BOOST_TEST_REQUIRE(::pipe2(pipe.data(), O_CLOEXEC) == 0);
    child = ::fork();
    if (child == 0) {
      ::execlp("sleep", "sleep", "60", nullptr);
      ::_exit(127);
    }
    ::close(pipe[1]);
    char none = 0;
    BOOST_TEST(::read(pipe[0], &none, 1) == 0);  // the end comes with exec
    ::close(pipe[0]);
  }
  BOOST_TEST(failure_at(scratch.path()).code == 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

BOOST_AUTO_TEST_CASE(a_holder_that_has_not_said_who_it_is) {
  const Scratch scratch;
  const FileDescriptor lock(::open((scratch / ".lock").c_str(), O_RDWR | O_CREAT, 0600));
  BOOST_TEST(::flock(lock.get(), LOCK_EX) == 0);
  BOOST_TEST(failure_at(scratch.path()).names("is in use by another job; "));
}

BOOST_AUTO_TEST_CASE(a_disk_without_locks_is_a_remark) {
  for (const int error : {ENOLCK, EOPNOTSUPP, ENOSYS}) {
    const Scratch scratch;
    const SystemCalls calls(Call::flock, error);
    const RunDirectory directory(scratch.path(), "small", start);
    BOOST_TEST_REQUIRE(directory.remarks().size() == 1u);
    BOOST_TEST(directory.remarks()[0].find("cannot be locked") != std::string::npos);
  }
  const Scratch scratch;
  const SystemCalls calls(Call::flock, EIO);
  BOOST_TEST(failure_at(scratch.path()).code == 74);
}

BOOST_AUTO_TEST_CASE(a_lock_file_that_is_a_link_is_not_followed) {
  const Scratch scratch;
  put(scratch / "mine", "precious");
  fs::create_symlink("mine", scratch / ".lock");
  const Failure failure = failure_at(scratch.path());
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names(".lock: "), failure.line);
  BOOST_TEST(content(scratch / "mine") == "precious");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(metrics)

namespace {

// The rest of metrics.jsonl when a run resumes at window 2 of epoch 1, step 12.
std::string cut(const std::string& text, std::int64_t step = 12, int epoch = 1) {
  const Scratch scratch;
  put(scratch / "metrics.jsonl", text);
  RunDirectory(scratch.path(), "small", go_on).cut_metrics(step, epoch);
  return content(scratch / "metrics.jsonl");
}

const std::string kWindow11 = R"({"kind":"window","epoch":1,"window":1,"step":11,"loss":1.5})"
                              "\n";
const std::string kWindow12 = R"({"kind":"window","epoch":1,"window":2,"step":12,"loss":1.25})"
                              "\n";
const std::string kProgress11 = R"({"kind":"progress","epoch":1,"step":11})"
                                "\n";
const std::string kProgress12 = R"({"kind":"progress","epoch":1,"step":12})"
                                "\n";
// The step of an epoch's record is that of its end.
const std::string kEpoch0 = R"({"kind":"epoch","epoch":0,"step":12,"split":"valid"})"
                            "\n";
const std::string kEpoch1 = R"({"kind":"epoch","epoch":1,"step":20,"split":"valid"})"
                            "\n";
const std::string kTest = R"({"kind":"test","split":"test","perplexity":2})"
                          "\n";

}  // namespace

BOOST_AUTO_TEST_CASE(what_will_come_again_goes) {
  BOOST_TEST(cut(kEpoch0 + kWindow11 + kProgress11 + kWindow12 + kProgress12 + kEpoch1 + kTest) ==
             kEpoch0 + kWindow11 + kProgress11);
  BOOST_TEST(cut(kEpoch0 + kWindow11 + kTest, 0, 0) == "");
  BOOST_TEST(cut(kWindow12 + kEpoch1, 20, 2) == kWindow12 + kEpoch1);
}

BOOST_AUTO_TEST_CASE(a_line_cut_short_goes_and_others_keep_their_bytes) {
  const std::string odd = " { \"step\" : 1.50e0, \"kind\":\"window\"}\r\n";
  const std::string foreign = "no record\n\n[1]\n{\"kind\": \"mine\", \"step\": 99}\n";
  const std::string head = odd + foreign + kWindow11;
  for (std::size_t length = 1; length < kWindow11.size(); ++length) {
    BOOST_TEST(cut(head + kWindow11.substr(0, length)) == head);
  }
  BOOST_TEST(cut(head + std::string(100, '\0')) == head);
  BOOST_TEST(cut(head + "{\"kind\":\"win\n") == head);
  BOOST_TEST(cut(head) == head);
}

BOOST_AUTO_TEST_CASE(records_of_another_shape_stay) {
  const std::string text =
      "{\"kind\":\"window\"}\n{\"kind\":\"window\",\"step\":\"99\"}\n{\"kind\":7,\"step\":99}\n"
      "{\"step\":99}\n{\"kind\":\"window\",\"step\":1e999}\n" +
      std::string(100'000, '[') + "\n" + kWindow11;
  BOOST_TEST((cut(text) == text));
}

BOOST_AUTO_TEST_CASE(a_file_that_needs_no_cut_is_not_touched) {
  const Scratch scratch;
  const RunDirectory directory(scratch.path(), "small", start);
  directory.cut_metrics(0, 0);  // there is none
  BOOST_TEST(!fs::exists(scratch / "metrics.jsonl"));
  put(scratch / "metrics.jsonl", kWindow11);
  const SystemCalls calls;
  directory.cut_metrics(12, 1);
  BOOST_TEST(calls.count(Call::rename) == 0);
}

BOOST_AUTO_TEST_CASE(a_cut_that_fails_leaves_the_file) {
  for (const Call call : {Call::open, Call::write, Call::fsync, Call::rename}) {
    const Scratch scratch;
    put(scratch / "metrics.jsonl", kWindow11 + kWindow12);
    const RunDirectory directory(scratch.path(), "small", go_on);
    Failure failure;
    {
      const SystemCalls calls(call, EIO);
      failure = failure_of([&] { directory.cut_metrics(12, 1); });
    }
    BOOST_TEST(failure.code == 74);
    BOOST_TEST(failure.names("metrics.jsonl: Input/output error"), failure.line);
    BOOST_TEST(content(scratch / "metrics.jsonl") == kWindow11 + kWindow12);
    BOOST_TEST(names_in(scratch.path()).size() == 2u);  // and .lock
  }
  const Scratch scratch;
  fs::create_directory(scratch / "metrics.jsonl");
  const RunDirectory directory(scratch.path(), "small", go_on);
  BOOST_TEST(failure_of([&] { directory.cut_metrics(0, 0); }).names("is a folder"));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(line_file)

BOOST_AUTO_TEST_CASE(each_line_is_in_the_file_when_write_returns) {
  const Scratch scratch;
  LineFile file(scratch / "log.txt");
  file.write("one");
  BOOST_TEST(content(scratch / "log.txt") == "one\n");
  const std::string long_line(100'000, 'x');
  file.write(long_line);
  BOOST_TEST(content(scratch / "log.txt") == "one\n" + long_line + "\n");
}

BOOST_AUTO_TEST_CASE(appends_to_what_is_there) {
  const Scratch scratch;
  put(scratch / "log.txt", "old\n");
  LineFile(scratch / "log.txt").write("new");
  BOOST_TEST(content(scratch / "log.txt") == "old\nnew\n");
}

BOOST_AUTO_TEST_CASE(full_disk_is_named) {
  LineFile file("/dev/full");
  const Failure failure = failure_of([&] { file.write("x"); });
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names("/dev/full: No space left on device"), failure.line);
}

BOOST_AUTO_TEST_CASE(unwritable_file_is_named) {
  const Scratch scratch;
  const Failure failure = failure_of([&] { LineFile(scratch / "no/log.txt"); });
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names("no/log.txt: No such file"), failure.line);
}

// A limit on the file's size stands for a disk that fills up in the middle of a line.
BOOST_AUTO_TEST_CASE(a_line_that_does_not_fit_leaves_no_part) {
  const Scratch scratch;
  const int code = code_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    LineFile file(scratch / "log.txt");
    file.write("12345");
    file.write("67890");
  });
  BOOST_TEST(code == 74);
  BOOST_TEST(content(scratch / "log.txt") == "12345\n");
}

BOOST_AUTO_TEST_SUITE_END()
