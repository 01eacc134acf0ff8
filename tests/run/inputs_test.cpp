// Where the corpus is, and how the run directory and the log show the configuration.
#include "ptb_dist/run/inputs.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "io/scratch.hpp"
#include "ptb_dist/run/header.hpp"
#include "support/world.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

// A working folder of its own, and $PTB_DATA as given.
class Place {
 public:
  explicit Place(const char* ptb_data) {
    fs::current_path(scratch.path());
    if (const char* value = std::getenv("PTB_DATA")) data_before_ = value;
    ptb_data == nullptr ? ::unsetenv("PTB_DATA") : ::setenv("PTB_DATA", ptb_data, 1);
  }
  ~Place() {
    fs::current_path(before_);
    data_before_ ? ::setenv("PTB_DATA", data_before_->c_str(), 1) : ::unsetenv("PTB_DATA");
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  Scratch scratch;

 private:
  fs::path before_ = fs::current_path();
  std::optional<std::string> data_before_;
};

Config with_data(const std::string& data) {
  Config config;
  config.data = data;
  return config;
}

std::string configuration_lines(const ResolvedConfig& config) {
  std::string text;
  for (const std::string& line : header_lines(config, Corpus{}, Plan{}, "machine")) {
    text += line + "\n";
  }
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(inputs)

BOOST_AUTO_TEST_CASE(a_flag_counts_before_the_environment_and_that_before_the_folder) {
  const Place place("there");
  fs::create_directories("data/ptb");
  BOOST_TEST(corpus_place(with_data("here")).place == "here");
  BOOST_TEST(!corpus_place(with_data("here")).is_from_environment);
  BOOST_TEST(corpus_place(Config{}).place == "there");
  BOOST_TEST(corpus_place(Config{}).is_from_environment);
  ::setenv("PTB_DATA", "", 1);
  BOOST_TEST(corpus_place(Config{}).place == "data/ptb");
}

BOOST_AUTO_TEST_CASE(lines_that_end_twice_are_one_warning) {
  BOOST_TEST(corpus_warnings(Corpus{}).empty());
  Corpus corpus;
  corpus.marked_lines = {420, 0, 37};
  corpus.end_mark = "</s>";
  const std::vector<std::string> warnings = corpus_warnings(corpus);
  BOOST_TEST_REQUIRE(warnings.size() == 1);
  BOOST_TEST(contains(warnings[0], "end in \"</s>\" (420 of train, 37 of test)"), warnings[0]);
}

BOOST_AUTO_TEST_CASE(no_corpus_at_all) {
  const Place place(nullptr);
  const Failure failure = failure_of([] { corpus_place(Config{}); });
  BOOST_TEST(failure.code == 65);
  for (const char* words : {"no corpus", "$PTB_DATA", "launch/get_ptb.sh"}) {
    BOOST_TEST(failure.names(words), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(the_environment_is_named_where_it_chose) {
  const Place place("nowhere");
  Failure failure = failure_of([] { agreed_corpus(session(), Config{}); });
  BOOST_TEST(failure.code == 65);
  for (const char* words : {"$PTB_DATA: no corpus: nowhere: No such file", "launch/get_ptb.sh"}) {
    BOOST_TEST(failure.names(words), failure.line);
  }
  failure = failure_of([] { agreed_corpus(session(), with_data("nowhere")); });
  BOOST_TEST(failure.line.starts_with("no corpus: nowhere"), failure.line);
  BOOST_TEST(!failure.names("$PTB_DATA"), failure.line);
}

BOOST_AUTO_TEST_CASE(what_the_run_directory_keeps_runs_anywhere) {
  const Place place("ptb");
  ResolvedConfig config{.name = "small"};
  config.values.run_dir = "run";
  config.values.init_from = "start.h5";
  const fs::path here = fs::current_path();
  Config kept = repeatable(config).values;
  BOOST_TEST(kept.run_dir == "");
  BOOST_TEST(kept.data == (here / "ptb").string());
  BOOST_TEST(kept.init_from == (here / "start.h5").string());
  const std::string text = to_toml(repeatable(config));
  BOOST_TEST((config_from_toml(text, "small", "config.toml").values == kept));

  config.values.init_from = "";
  config.values.data = "synthetic";
  kept = repeatable(config).values;
  BOOST_TEST(kept.data == "synthetic");
  BOOST_TEST(kept.init_from == "");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(header)

BOOST_AUTO_TEST_CASE(shipped_configurations_are_not_cluttered) {
  const std::string text =
      configuration_lines(resolve_config("medium", std::vector<std::pair<std::string, std::string>>{
                                                       {"seed", "7"}, {"num_steps", "35"}}));
  BOOST_TEST(contains(text, "Configuration: medium\n"), text);
  BOOST_TEST(contains(text, "hidden_size = 650,"), text);
  BOOST_TEST(contains(text, "seed = 7 (flag)"), text);
  BOOST_TEST(contains(text, "num_steps = 35 (flag)"), text);
  BOOST_TEST(!contains(text, ".toml"), text);
}

BOOST_AUTO_TEST_CASE(what_a_file_of_the_user_changes_is_marked) {
  const Place place(nullptr);
  put("mine.toml", "hidden_size = 30\nnum_layers = 2\nkeep_prob = 0.5\n");
  const std::string text = configuration_lines(resolve_config(
      "./mine.toml", std::vector<std::pair<std::string, std::string>>{{"keep_prob", "0.7"}}));
  BOOST_TEST(contains(text, "Configuration: mine, ./mine.toml\n"), text);
  BOOST_TEST(contains(text, "hidden_size = 30 (mine.toml)"), text);
  BOOST_TEST(contains(text, "keep_prob = 0.7 (flag)"), text);
  BOOST_TEST(contains(text, "num_layers = 2,"), text);  // the default's value
}

BOOST_AUTO_TEST_SUITE_END()
