#include "ptb_dist/io/checkpoint_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>
#include <set>

#include "io/files/file.hpp"
#include "io/scratch.hpp"
#include "io/system_calls.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

using Names = std::vector<std::string>;

// A folder of checkpoints, each with its name in it.
struct Stored {
  explicit Stored(const Names& names) {
    folder.prepare();
    for (const std::string& name : names) put(folder.path() / name, name);
  }
  // In the order of list().
  Names listed() const {
    Names names;
    for (const StoredCheckpoint& stored : folder.list()) names.push_back(stored.path.filename());
    return names;
  }
  Names sorted(const fs::path& path) const {
    const Names names = names_in(path);
    const std::set<std::string> sorted(names.begin(), names.end());
    return {sorted.begin(), sorted.end()};
  }

  Scratch scratch{};
  CheckpointFolder folder{scratch / "checkpoints"};
};

const std::string kStep10 = "g0000-step-00000010.h5";
const std::string kStep20 = "g0000-step-00000020.h5";
const std::string kStep20Again = "g0001-step-00000020.h5";
const std::string kStep30 = "g0001-step-00000030.h5";

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_folder)

BOOST_AUTO_TEST_CASE(names_are_those_of_the_format) {
  const CheckpointFolder folder("run/checkpoints");
  BOOST_TEST(folder.file(3, 12'000) == "run/checkpoints/g0003-step-00012000.h5");
  BOOST_TEST(folder.file(12'345, 1'234'567'890) == "run/checkpoints/g12345-step-1234567890.h5");
  BOOST_TEST(folder.best() == "run/checkpoints/best.h5");
}

BOOST_AUTO_TEST_CASE(the_newest_comes_first) {
  const Names far = {"g0002-step-1234567890.h5", "g12345-step-99999999.h5"};
  const Stored stored({kStep20Again, far[1], kStep10, kStep30, far[0], kStep20});
  BOOST_TEST(stored.listed() == (Names{far[0], far[1], kStep30, kStep20Again, kStep20, kStep10}),
             boost::test_tools::per_element());
  const StoredCheckpoint second = stored.folder.list().at(1);
  BOOST_TEST(second.generation == 12'345);
  BOOST_TEST(second.step == 99'999'999);
}

BOOST_AUTO_TEST_CASE(names_that_are_not_ours_are_ignored) {
  const Stored stored({kStep10, "best.h5", "g0000-step-00000010.h5.bak", "g0-step-00000011.h5",
                       "g0000-step-12.h5", "g00000-step-00000012.h5", "g-001-step-00000012.h5",
                       "g0000-step--0000012.h5", "h0000-step-00000012.h5", "g0000-step-00000012",
                       "g99999999999-step-00000012.h5", "g1000000000-step-00000012.h5",
                       "g0000-step-99999999999999999999.h5", ".g0000-step-00000012.h5.tmp.host.1",
                       "gg000-step-00000012.h5", "g0000-step-0000001x.h5", "-step-", "g"});
  BOOST_TEST(stored.listed() == Names{kStep10}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(no_folder_holds_none_and_a_file_is_no_folder) {
  const Scratch scratch;
  const CheckpointFolder folder(scratch / "checkpoints");
  BOOST_TEST(folder.list().empty());
  folder.prune(1);
  BOOST_TEST(folder.set_aside("elsewhere.h5", true).empty());
  BOOST_TEST(!fs::exists(folder.path()));
  put(folder.path(), "");
  for (const Failure& failure :
       {failure_of([&] { folder.list(); }), failure_of([&] { folder.prepare(); })}) {
    BOOST_TEST(failure.code == 74);
    BOOST_TEST(failure.names((scratch / "checkpoints").string()), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(prepare_removes_what_a_kill_has_left) {
  const Stored stored({kStep10});
  const std::string bytes = "whole";
  BOOST_TEST(code_in_child([&] {
               const SystemCalls calls(Call::rename, kKill);
               stored.folder.write(stored.folder.file(0, 20), std::as_bytes(std::span(bytes)));
             }) == 128 + SIGKILL);
  BOOST_TEST(names_in(stored.folder.path()).size() == 2u);
  BOOST_TEST(stored.listed() == Names{kStep10}, boost::test_tools::per_element());
  stored.folder.prepare();
  BOOST_TEST(names_in(stored.folder.path()) == Names{kStep10}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_written_is_whole_and_replaces) {
  const Stored stored({kStep10});
  const std::string bytes = "whole";
  stored.folder.write(stored.folder.file(0, 10), std::as_bytes(std::span(bytes)));
  BOOST_TEST(content(stored.folder.path() / kStep10) == bytes);
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_gone_is_told) {
  const Stored stored({});
  fs::remove(stored.folder.path());
  const Failure failure = failure_of([&] { stored.folder.write(stored.folder.file(0, 10), {}); });
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names(kStep10 + ": No such file or directory"), failure.line);
}

BOOST_AUTO_TEST_CASE(pruning_keeps_the_newest_and_the_best) {
  const Names all = {kStep10, kStep20, kStep20Again, kStep30, "best.h5", "notes.txt"};
  const Stored stored(all);
  stored.folder.prune(4);
  BOOST_TEST(names_in(stored.folder.path()).size() == all.size());
  stored.folder.prune(2);
  BOOST_TEST(stored.listed() == (Names{kStep30, kStep20Again}), boost::test_tools::per_element());
  stored.folder.prune(1);
  BOOST_TEST(stored.sorted(stored.folder.path()) == (Names{"best.h5", kStep30, "notes.txt"}),
             boost::test_tools::per_element());
}

// Oldest first, so that a kill in between leaves the checkpoints that are kept longest.
BOOST_AUTO_TEST_CASE(pruning_begins_with_the_oldest) {
  const Stored stored({kStep10, kStep20, kStep20Again, kStep30});
  BOOST_TEST(code_in_child([&] {
               const SystemCalls calls(Call::unlink, kKill, 2);
               stored.folder.prune(1);
             }) == 128 + SIGKILL);
  BOOST_TEST(stored.listed() == (Names{kStep30, kStep20Again, kStep20}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_checkpoint_that_cannot_be_removed_is_named) {
  const Stored stored({kStep10, kStep20});
  const SystemCalls calls(Call::unlink, EROFS);
  const Failure failure = failure_of([&] { stored.folder.prune(1); });
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names(kStep10 + ": Read-only file system"), failure.line);
  BOOST_TEST(stored.listed().size() == 2u);
}

BOOST_AUTO_TEST_CASE(newer_ones_are_set_aside) {
  const Stored stored({kStep10, kStep20, kStep20Again, kStep30, "best.h5"});
  const auto moved = stored.folder.set_aside(stored.folder.path() / kStep20, false);
  BOOST_TEST(
      moved == (std::vector{stored.folder.path() / kStep30, stored.folder.path() / kStep20Again}),
      boost::test_tools::per_element());
  BOOST_TEST(stored.listed() == (Names{kStep20, kStep10}), boost::test_tools::per_element());
  const fs::path aside = stored.folder.path() / "set-aside";
  BOOST_TEST(stored.sorted(aside) == (Names{kStep20Again, kStep30}),
             boost::test_tools::per_element());
  BOOST_TEST(content(aside / kStep30) == kStep30);
  BOOST_TEST(fs::exists(stored.folder.best()));
}

BOOST_AUTO_TEST_CASE(nothing_is_set_aside_twice_under_one_name) {
  const Stored stored({kStep10});
  for (const char* text : {"first", "second", "third"}) {
    put(stored.folder.path() / kStep30, text);
    put(stored.folder.best(), text);
    BOOST_TEST(stored.folder.set_aside(stored.folder.path() / kStep10, true).size() == 2u);
  }
  const fs::path aside = stored.folder.path() / "set-aside";
  BOOST_TEST(content(aside / kStep30) == "first");
  BOOST_TEST(content(aside / "g0001-step-00000030-2.h5") == "second");
  BOOST_TEST(content(aside / "best-3.h5") == "third");
  BOOST_TEST(names_in(aside).size() == 6u);
  BOOST_TEST(names_in(stored.folder.path()).size() == 2u);
}

BOOST_AUTO_TEST_CASE(nothing_newer_needs_no_folder) {
  const Stored stored({kStep10});
  BOOST_TEST(stored.folder.set_aside(stored.folder.path() / kStep10, true).empty());
  BOOST_TEST(!fs::exists(stored.folder.path() / "set-aside"));
}

BOOST_AUTO_TEST_CASE(the_chosen_one_is_known_however_it_is_written) {
  const Stored stored({kStep10, kStep20});
  fs::create_symlink(stored.folder.path() / kStep10, stored.scratch / "link.h5");
  BOOST_TEST(stored.folder.set_aside(stored.scratch / "link.h5", false).size() == 1u);
  BOOST_TEST(stored.listed() == Names{kStep10}, boost::test_tools::per_element());
  // A checkpoint from another folder: all that are here belong to another run.
  put(stored.scratch / "elsewhere.h5", "");
  BOOST_TEST(stored.folder.set_aside(stored.scratch / "elsewhere.h5", false).size() == 1u);
  BOOST_TEST(stored.listed().empty());
}

BOOST_AUTO_TEST_CASE(one_that_cannot_be_set_aside_is_named) {
  const Stored stored({kStep10, kStep20});
  const SystemCalls calls(Call::rename, EACCES);
  const Failure failure =
      failure_of([&] { stored.folder.set_aside(stored.folder.path() / kStep10, false); });
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names(kStep20 + ": Permission denied"), failure.line);
}

BOOST_AUTO_TEST_SUITE_END()
