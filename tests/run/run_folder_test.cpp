// What becomes of a run directory when a run begins in it or goes on: which checkpoints are kept,
// set aside, copied, and which records are cut.
#include "ptb_dist/run/run_folder.hpp"

#include <boost/test/unit_test.hpp>

#include "io/sample_checkpoint.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

// A run directory with checkpoints of a small run, whose best epoch is its first.
struct Place {
  // A checkpoint of the run after `epoch` epochs and `window` windows of 8.
  fs::path save(const fs::path& file, int epoch, int window) {
    SampleRun run(ElementType::f32);
    Progress& progress = run.info.progress;
    progress = {.epoch = epoch, .window = window, .step = 8 * epoch + window, .cross_entropy = 1};
    for (int e = 0; e < epoch; ++e) {
      progress.history.push_back({.learning_rate = 1, .train = 9, .valid = 5.0 + e});
    }
    fs::create_directories(file.parent_path());
    run.save(file);
    return file;
  }
  fs::path own(int epoch, int window) {
    return save(checkpoints.file(0, 8 * epoch + window), epoch, window);
  }

  Scratch scratch;
  RunDirectory directory{scratch / "run", "small", RunDirectory::Purpose::start};
  CheckpointFolder checkpoints = directory.checkpoints();
};

std::vector<std::int64_t> steps(const CheckpointFolder& folder) {
  std::vector<std::int64_t> found;
  for (const StoredCheckpoint& stored : folder.list()) found.push_back(stored.step);
  return found;
}

CommandLine command_line(const fs::path& run_dir, const std::string& resume) {
  CommandLine line;
  line.config.name = "small";
  line.config.values.run_dir = run_dir;
  line.config.values.data = "synthetic";
  line.resume = resume;
  return line;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(run_folder)

BOOST_AUTO_TEST_CASE(a_run_that_goes_on_from_its_newest_leaves_all_as_it_is) {
  Place place;
  const CheckpointFile newest(place.own(2, 3));
  place.own(1, 0);
  place.save(place.checkpoints.best(), 1, 0);
  BOOST_TEST(clear_the_way(place.directory, &newest).empty());
  BOOST_TEST((steps(place.checkpoints) == std::vector<std::int64_t>{19, 8}));
  BOOST_TEST(best_of(place.checkpoints, newest.info().progress)->info().progress.step == 8);
}

BOOST_AUTO_TEST_CASE(newer_checkpoints_and_a_newer_best_are_set_aside) {
  Place place;
  const CheckpointFile older(place.own(1, 3));
  place.own(3, 0);
  place.save(place.checkpoints.best(), 3, 0);
  const std::vector<std::string> remarks = clear_the_way(place.directory, &older);
  BOOST_TEST(remarks.size() == 2);
  for (const std::string& text : remarks) BOOST_TEST(text.starts_with("Set aside"), text);
  BOOST_TEST((steps(place.checkpoints) == std::vector<std::int64_t>{11}));
  BOOST_TEST(!best_of(place.checkpoints, older.info().progress));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_of_another_run_is_copied_with_the_best_beside_it) {
  Place place;
  const fs::path other = place.scratch / "other/checkpoints";
  const CheckpointFile from(place.save(other / "g0000-step-00000019.h5", 2, 3));
  place.save(other / "best.h5", 1, 0);
  const std::vector<std::string> remarks = clear_the_way(place.directory, &from);
  BOOST_TEST_REQUIRE(remarks.size() == 1);
  BOOST_TEST(remarks[0].starts_with("Copied here to resume from"), remarks[0]);
  BOOST_TEST((steps(place.checkpoints) == std::vector<std::int64_t>{19}));
  BOOST_TEST(best_of(place.checkpoints, from.info().progress)->info().progress.epoch == 1);
}

BOOST_AUTO_TEST_CASE(the_best_is_restored_from_the_checkpoint_itself) {
  Place place;
  const CheckpointFile from(place.own(1, 0));  // a kill before best.h5 was written
  BOOST_TEST(clear_the_way(place.directory, &from).empty());
  BOOST_TEST(content(place.checkpoints.best()) == content(from.path()));
}

BOOST_AUTO_TEST_CASE(a_best_of_another_history_is_not_the_run_s) {
  Place place;
  place.save(place.checkpoints.best(), 1, 0);
  Progress other = CheckpointFile(place.own(1, 3)).info().progress;
  other.history[0].valid = 4;
  BOOST_TEST(!best_of(place.checkpoints, other));
  put(place.checkpoints.best(), "no checkpoint");
  BOOST_TEST(!best_of(place.checkpoints, other));
}

BOOST_AUTO_TEST_CASE(records_that_come_again_are_cut) {
  Place place;
  const std::string kept = R"({"kind":"window","epoch":0,"step":10})"
                           "\n";
  const std::string lines = kept + R"({"kind":"window","epoch":1,"step":11})"
                                   "\n";
  put(place.directory.file("metrics.jsonl"), lines);
  const CheckpointFile from(place.own(1, 3));
  clear_the_way(place.directory, &from);
  BOOST_TEST(content(place.directory.file("metrics.jsonl")) == kept);
  clear_the_way(place.directory, nullptr);
  BOOST_TEST(content(place.directory.file("metrics.jsonl")) == "");
}

BOOST_AUTO_TEST_CASE(a_folder_to_go_on_in_is_locked_at_once_and_no_other_is_touched) {
  const Scratch scratch;
  const fs::path fresh = scratch / "fresh", run = scratch / "run";
  const CommandLine start = command_line(fresh, "");
  RunFolder folder(start);
  BOOST_TEST(!fs::exists(fresh));
  folder.open(nullptr, ElementType::f32).line("header");
  BOOST_TEST(content(fresh / "log.txt") == "header\n");
  BOOST_TEST(RunDirectory::holds_a_run(fresh));

  fs::create_directories(run);
  const CommandLine again = command_line(run, "auto");
  const RunFolder first(again);
  BOOST_TEST(failure_of([&] { const RunFolder second(again); }).code == 2);
  CommandLine dry = again;
  dry.action = CommandLine::Action::dry_run;
  BOOST_TEST(failure_of([&] { const RunFolder second(dry); }).code == 0);
}

BOOST_AUTO_TEST_CASE(a_save_target_that_cannot_be_leaves_no_run) {
  const Scratch scratch;
  CommandLine line = command_line(scratch / "run", "");
  line.config.values.save_parameters = scratch / "rum/saved.h5";
  const auto open = [&] { RunFolder(line).open(nullptr, ElementType::f32); };
  BOOST_TEST(failure_of(open).code == 74);
  BOOST_TEST(!RunDirectory::holds_a_run(scratch / "run"));
  line.config.values.save_parameters = scratch / "run/saved.h5";
  BOOST_TEST(failure_of(open).code == 0);
}

BOOST_AUTO_TEST_SUITE_END()
