#include "ptb_dist/base/command_line.hpp"

#include <boost/test/unit_test.hpp>
#include <sstream>

#include "base/complaints.hpp"
#include "ptb_dist/base/version.hpp"

namespace ptb {
namespace {

using Action = CommandLine::Action;

// Words are split at spaces.
std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> list;
  for (std::string word; stream >> word;) list.push_back(word);
  return list;
}

CommandLine parse(const std::string& text) { return parse_command_line(words(text), "version 1"); }

std::vector<std::string> refuse(const std::string& text) {
  return complaints_of([&text] { parse(text); });
}

std::string only_line(const std::string& text) {
  const auto lines = refuse(text);
  BOOST_TEST(lines.size() == 1, text << " gave " << lines.size() << " lines");
  return lines.empty() ? "" : lines[0];
}

BOOST_AUTO_TEST_SUITE(command_line)

BOOST_AUTO_TEST_CASE(bare_trains_small) {
  const CommandLine line = parse("");
  BOOST_TEST((line.action == Action::train));
  BOOST_TEST(line.config.name == "small");
  BOOST_TEST((line.config.values == Config{}));
  BOOST_TEST(!line.max_windows.has_value());
}

BOOST_AUTO_TEST_CASE(commands_stand_before_or_after_flags) {
  BOOST_TEST((parse("train").action == Action::train));
  BOOST_TEST((parse("config --seed 3").action == Action::config));
  BOOST_TEST(parse("config --seed 3").config.values.seed == 3);
  BOOST_TEST((parse("--seed 3 config").action == Action::config));
  BOOST_TEST(parse("--seed 3 config").config.values.seed == 3);
  BOOST_TEST((parse("--dry-run").action == Action::dry_run));
  BOOST_TEST((parse("train --dry-run --config large").action == Action::dry_run));
}

BOOST_AUTO_TEST_CASE(every_key_is_a_flag_in_both_spellings) {
  for (const Key& key : config_schema()) {
    BOOST_TEST_CONTEXT(key.name) {
      const bool is_text = std::holds_alternative<std::string Config::*>(key.member);
      const std::string value = !key.choices.empty() ? key.choices.back() : is_text ? "a" : "100";
      const std::string number = key.high == 1 ? "0.25" : value;  // keep_prob, lr_decay
      const CommandLine apart = parse(key.flag() + " " + number);
      const CommandLine joined = parse(key.flag() + "=" + number);
      BOOST_TEST((apart.config.values == joined.config.values));
      BOOST_TEST((apart.config.values != Config{}));
      BOOST_TEST(contains(toml_value(apart.config.values, key), number));
    }
  }
}

BOOST_AUTO_TEST_CASE(epochs_is_max_max_epoch) {
  BOOST_TEST(parse("--epochs 1").config.values.max_max_epoch == 1);
  BOOST_TEST(parse("--max-max-epoch=2").config.values.max_max_epoch == 2);
}

BOOST_AUTO_TEST_CASE(the_last_of_two_counts) {
  BOOST_TEST(parse("--seed 1 --seed 2").config.values.seed == 2);
  BOOST_TEST(parse("--epochs 7 --max-max-epoch 3").config.values.max_max_epoch == 3);
  BOOST_TEST(parse("--config small --config large").config.name == "large");
}

BOOST_AUTO_TEST_CASE(values_may_look_like_anything) {
  BOOST_TEST(parse("--forget-bias -1").config.values.forget_bias == -1.0);
  BOOST_TEST(parse("--forget-bias=-1e-3").config.values.forget_bias == -1e-3);
  BOOST_TEST(parse("--data config").config.values.data == "config");
  BOOST_TEST(parse("--data=a=b").config.values.data == "a=b");
  BOOST_TEST(parse("--data [a,b]").config.values.data == "[a,b]");
  BOOST_TEST(parse("--data {}").config.values.data == "{}");
  BOOST_TEST(parse_command_line({"--data", "a b"}, "").config.values.data == "a b");
  BOOST_TEST(parse_command_line({"--data", ""}, "").config.values.data == "");
  BOOST_TEST(parse_command_line({"--data", "\"q\""}, "").config.values.data == "\"q\"");
}

BOOST_AUTO_TEST_CASE(max_windows_is_no_part_of_the_configuration) {
  const CommandLine line = parse("--max-windows 200");
  BOOST_TEST(line.max_windows.value() == 200);
  BOOST_TEST((line.config.values == Config{}));
  for (const char* bad : {"0", "-1", "2.5", "many", "99999999999999999999"}) {
    BOOST_TEST(contains(only_line(std::string("--max-windows ") + bad),
                        "--max-windows: \"" + std::string(bad) + "\" is not a number of windows"));
  }
}

BOOST_AUTO_TEST_CASE(stop_after_is_a_duration_and_no_part_of_the_configuration) {
  const std::pair<const char*, double> durations[] = {
      {"90s", 90}, {"55m", 3300}, {"2h", 7200}, {"1.5h", 5400}, {"0.25s", 0.25}};
  for (const auto& [text, seconds] : durations) {
    const CommandLine line = parse(std::string("--stop-after ") + text);
    BOOST_TEST(line.stop_after.value().seconds == seconds);
    BOOST_TEST(line.stop_after->text == text);
    BOOST_TEST((line.config.values == Config{}));
  }
  BOOST_TEST(!parse("").stop_after.has_value());
  for (const char* bad : {"0s", "0.0m", "-1s", "55", "55d", "m", ".5h", "1.h", "1e3s", "inf",
                          "1h30m", "0x1s", "9999999999s"}) {
    BOOST_TEST(only_line(std::string("--stop-after ") + bad) ==
               "--stop-after: \"" + std::string(bad) +
                   "\" is not a duration; give a number above 0 with its unit, s, m or h: 90s, "
                   "55m, 1.5h");
  }
  BOOST_TEST(contains(only_line("eval --checkpoint x --stop-after 5m"), "is for training only"));
}

BOOST_AUTO_TEST_CASE(unknown_flags_get_the_nearest_name) {
  BOOST_TEST(only_line("--lerning-rate 3") ==
             "unknown flag \"--lerning-rate\"; did you mean \"--learning-rate\"?");
  BOOST_TEST(only_line("--batch_size=3") ==
             "unknown flag \"--batch_size\"; did you mean \"--batch-size\"?");
  BOOST_TEST(contains(only_line("--epoch 3"), "did you mean \"--epochs\"?"));
  BOOST_TEST(contains(only_line("config --sed 3"), "did you mean \"--seed\"?"));
  BOOST_TEST(contains(only_line("--frobnicate"), "--help lists all"));
  BOOST_TEST(contains(only_line("-np 8"), "unknown flag \"-np\""));
}

BOOST_AUTO_TEST_CASE(stray_words_are_refused) {
  BOOST_TEST(only_line("trian") == "unexpected argument \"trian\"; did you mean \"train\"?");
  BOOST_TEST(contains(only_line("large"), "unexpected argument \"large\""));
  BOOST_TEST(contains(only_line("train config"), "unexpected argument \"config\""));
}

BOOST_AUTO_TEST_CASE(a_missing_value_is_named) {
  BOOST_TEST(only_line("--seed 1 --seed") == "--seed: has no value");
  BOOST_TEST(contains(only_line("--seed="), "--seed=: has no value"));
  BOOST_TEST(only_line("--data --dry-run") == "--data: has no value, \"--dry-run\" follows");
  BOOST_TEST(only_line("--config --dry-run") == "--config: has no value, \"--dry-run\" follows");
}

BOOST_AUTO_TEST_CASE(values_of_flags_keep_the_rules_of_files) {
  BOOST_TEST(only_line("--keep-prob 1.5") ==
             "--keep-prob: 1.5 is out of range; give a number above 0, up to 1");
  BOOST_TEST(contains(only_line("--num-layers 1.0"), "--num-layers: 1 is not an integer"));
  BOOST_TEST(contains(only_line("--learning-rate nan"), "not a finite number"));
}

BOOST_AUTO_TEST_CASE(all_complaints_come_at_once) {
  const auto lines = refuse("--sed 1 --keep-prob 2 --max-windows x --config lagre");
  BOOST_TEST_REQUIRE(lines.size() == 4);
  BOOST_TEST(contains(lines[0], "--sed"));
  BOOST_TEST(contains(lines[1], "--max-windows"));
  BOOST_TEST(contains(lines[2], "\"lagre\" is neither"));
  BOOST_TEST(contains(lines[3], "--keep-prob"));
}

BOOST_AUTO_TEST_CASE(help_is_grouped_and_complete) {
  const CommandLine line = parse("--help");
  BOOST_TEST((line.action == Action::print_text));
  for (const Key& key : config_schema()) {
    BOOST_TEST_CONTEXT(key.name) {
      BOOST_TEST(contains(line.text, key.flag()));
      BOOST_TEST(contains(line.text, "\n" + key.group + ":\n"));
      BOOST_TEST(contains(line.text, key.allowed() + "; default " + toml_value(Config{}, key)));
      BOOST_TEST(contains(line.text, key.unit));
    }
  }
  for (const char* flag :
       {"--epochs", "--config", "--max-windows", "--stop-after", "--dry-run", "--version"}) {
    BOOST_TEST(contains(line.text, flag));
  }
  std::istringstream text(line.text);
  for (std::string row; std::getline(text, row);) BOOST_TEST(row.size() <= 100, row);
  // The same for a command, and for other mistakes.
  BOOST_TEST(parse("config --help").text == line.text);
  BOOST_TEST(parse("--seed x --help").text == line.text);
}

BOOST_AUTO_TEST_CASE(version_prints_what_it_is_given) {
  BOOST_TEST((parse("--version").action == Action::print_text));
  BOOST_TEST(parse("--version").text == "version 1");
}

BOOST_AUTO_TEST_CASE(build_information_names_every_part) {
  for (const char* part :
       {"git revision: ", "compiler: ", "MPI: ", "HDF5: ", "oneDNN: ", "CUDA: ", "NCCL: "}) {
    BOOST_TEST(contains(build_information(), part));
  }
}

BOOST_AUTO_TEST_CASE(a_run_that_goes_on) {
  const CommandLine line = parse(
      "--run-dir r --resume auto --override lr_decay,max-epoch "
      "--override data --seed 3");
  BOOST_TEST(line.resume == "auto");
  BOOST_TEST((line.overridden == std::vector<std::string>{"lr_decay", "max_epoch", "data"}));
  BOOST_TEST(line.arguments.size() == 10u);
  BOOST_TEST(parse("--resume a/checkpoints/b.h5").resume == "a/checkpoints/b.h5");
  BOOST_TEST(parse("--run-dir r --fresh").is_fresh);

  BOOST_TEST(contains(only_line("--resume auto"), "no --run-dir"));
  BOOST_TEST(contains(only_line("--fresh"), "no --run-dir"));
  BOOST_TEST(contains(only_line("--run-dir r --fresh --resume auto"), "the opposite"));
  BOOST_TEST(contains(only_line("--override seed"), "use it with --resume"));
  BOOST_TEST(contains(only_line("--resume a.h5 --override hidden_size"), "have the shape of"));
  BOOST_TEST(
      contains(only_line("--resume a.h5 --override threads"), "not a key that a checkpoint"));
}

BOOST_AUTO_TEST_CASE(faults) {
  const CommandLine line = parse("--inject kill@1:50 --inject slow@0:7:save");
  BOOST_TEST_REQUIRE(line.faults.size() == 2u);
  BOOST_TEST(line.faults[0].text() == "kill@1:50:train");
  BOOST_TEST(line.faults[1].text() == "slow@0:7:save");
  for (const char* wrong : {"kill", "kill@1", "kill@1:", "kill@x:5", "kill@1:-5", "die@1:5",
                            "kill@1:5:lunch", "kill@1:5:", "nan@1:5:save", "kill@1:5:save:more"}) {
    BOOST_TEST(!parse_fault(wrong), wrong);
    BOOST_TEST(contains(only_line(std::string("--inject ") + wrong), "is not a fault"));
  }
}

BOOST_AUTO_TEST_CASE(commands_about_checkpoints) {
  const CommandLine line = parse("eval --checkpoint c.h5 --split valid");
  BOOST_TEST((line.action == Action::eval));
  BOOST_TEST(line.checkpoint == "c.h5");
  BOOST_TEST(line.split == "valid");
  BOOST_TEST(contains(only_line("eval"), "no checkpoint is given"));
  BOOST_TEST(contains(only_line("eval --checkpoint c.h5 --split train"), "one of valid, test"));
  BOOST_TEST(contains(only_line("--checkpoint c.h5"), "for the command eval only"));

  BOOST_TEST((parse("checkpoint verify a.h5 b.h5").files ==
              std::vector<std::string>{"verify", "a.h5", "b.h5"}));
  BOOST_TEST((parse("checkpoint diff a.h5 b.h5").action == Action::checkpoint));
  for (const char* wrong :
       {"checkpoint", "checkpoint verify", "checkpoint diff a.h5", "checkpoint look a.h5"}) {
    BOOST_TEST(contains(only_line(wrong), "inspect|verify FILE"), wrong);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
