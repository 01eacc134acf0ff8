#define BOOST_TEST_MODULE io
#include "ptb_dist/io/run_directory.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <cctype>
#include <csignal>

#include "io/scratch.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

ResolvedConfig some_config() {
  ResolvedConfig config;
  config.name = "small";
  config.values.learning_rate = 0.1;
  config.values.seed = 42;
  return config;
}

Failure failure_at(const fs::path& path) {
  return failure_of([&] { RunDirectory(path, "small"); });
}

boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result result(::geteuid() == 0);
  result.message() << "only root can become another user";
  return result;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(run_directory)

BOOST_AUTO_TEST_CASE(config_reads_back) {
  const Scratch scratch;
  const RunDirectory directory(scratch / "a/b", "small");
  directory.keep(some_config());
  BOOST_TEST(directory.path() == scratch / "a/b");
  const std::string text = content(directory.file("config.toml"));
  BOOST_TEST((config_from_toml(text, "small", "config.toml").values == some_config().values));
  BOOST_TEST(names_in(directory.path()).size() == 1u);  // no temporary file
}

BOOST_AUTO_TEST_CASE(default_names_are_unique) {
  const Scratch scratch;
  const fs::path before = fs::current_path();
  fs::current_path(scratch.path());
  std::vector<fs::path> paths;
  for (int run = 0; run < 3; ++run) paths.push_back(RunDirectory("", "small").path());
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
  RunDirectory(scratch / "link", "small").keep(some_config());
  BOOST_TEST(fs::exists(scratch / "real/config.toml"));
}

BOOST_AUTO_TEST_CASE(another_run_is_not_overwritten) {
  for (const char* name : {"config.toml", "metrics.jsonl"}) {
    const Scratch scratch;
    put(scratch / name, "theirs");
    const Failure failure = failure_at(scratch.path());
    BOOST_TEST(failure.code == 2);
    BOOST_TEST(failure.names(name), failure.line);
    BOOST_TEST(failure.names("--run-dir"), failure.line);
    BOOST_TEST(content(scratch / name) == "theirs");
  }
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

BOOST_AUTO_TEST_CASE(missing_permission, *boost::unit_test::precondition(is_root)) {
  const Scratch scratch;
  fs::create_directory(scratch / "closed");
  for (const char* name : {"closed", "closed/run"}) {
    BOOST_TEST(code_in_child([&] {
                 if (::setgid(65534) != 0 || ::setuid(65534) != 0) return;
                 RunDirectory(scratch / name, "small").keep(some_config());
               }) == 74);
  }
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
