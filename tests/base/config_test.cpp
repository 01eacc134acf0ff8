#include "ptb_dist/base/config.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <set>

#include "base/complaints.hpp"
#include "ptb_dist/base/random.hpp"
#include "support/requirements.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::pair<std::string, std::string>>;

struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "ptb_dist_config_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryFolder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return (path / name).string();
  }
  fs::path path;
};

ResolvedConfig read(const std::string& text) { return config_from_toml(text, "mine", "mine.toml"); }

// The only complaint about a text, or about flags over "small".
std::string complaint(const std::string& text) {
  const auto lines = complaints_of([&text] { read(text); });
  BOOST_TEST(lines.size() == 1);
  return lines.empty() ? "" : lines[0];
}
std::string flag_complaint(const std::string& key, const std::string& text) {
  const Overrides flags = {{key, text}};
  const auto lines = complaints_of([&flags] { resolve_config("small", flags); });
  BOOST_TEST(lines.size() == 1);
  return lines.empty() ? "" : lines[0];
}

BOOST_AUTO_TEST_SUITE(configuration)

BOOST_AUTO_TEST_CASE(the_schema_covers_every_member_once) {
  std::set<std::string> names;
  for (const Key& key : config_schema()) {
    BOOST_TEST_CONTEXT(key.name) {
      BOOST_TEST(names.insert(key.name).second);
      BOOST_TEST(!key.meaning.empty());
      BOOST_TEST(!key.group.empty());
      // The default lies in the range: its echo is accepted.
      BOOST_CHECK_NO_THROW(read(fmt::format("{} = {}", key.name, toml_value(Config{}, key))));
    }
  }
  // The echo would lose a member that is not in the table. Change this together with Config.
  BOOST_TEST(names.size() == 34);
}

BOOST_AUTO_TEST_CASE(ranges_stay_within_the_random_numbers_packing) {
  const auto top = [](const std::string& name) {
    for (const Key& key : config_schema()) {
      if (key.name == name) return key.high;
    }
    return 0.0;
  };
  BOOST_TEST(top("max_max_epoch") == kMaxEpochs);
  BOOST_TEST(top("num_steps") == kMaxSteps);
  BOOST_TEST(top("hidden_size") == kMaxUnits);
  BOOST_TEST(top("num_layers") == kMaxDropoutSites - 1);
}

BOOST_AUTO_TEST_CASE(shipped_configurations_are_the_published_table) {
  Config test{.init_scale = 0.1,
              .learning_rate = 1.0,
              .max_grad_norm = 1,
              .num_layers = 1,
              .num_steps = 2,
              .hidden_size = 2,
              .max_epoch = 1,
              .max_max_epoch = 1};
  Config small;
  Config medium{.init_scale = 0.05,
                .num_steps = 35,
                .hidden_size = 650,
                .max_epoch = 6,
                .max_max_epoch = 39,
                .keep_prob = 0.5,
                .lr_decay = 0.8};
  Config large{.init_scale = 0.04,
               .max_grad_norm = 10,
               .num_steps = 35,
               .hidden_size = 1500,
               .max_epoch = 14,
               .max_max_epoch = 55,
               .keep_prob = 0.35,
               .lr_decay = 1 / 1.15};
  const std::pair<const char*, Config> rows[] = {
      {"test", test}, {"small", small}, {"medium", medium}, {"large", large}};
  for (const auto& [name, values] : rows) {
    const ResolvedConfig config = resolve_config(name, {});
    BOOST_TEST((config.values == values), name);
    BOOST_TEST(config.name == name);
  }
}

BOOST_AUTO_TEST_CASE(a_file_goes_over_the_defaults_and_a_flag_over_the_file) {
  const TemporaryFolder folder;
  const std::string file = folder.write("mine.toml", "seed = 5\nhidden_size = 30\n");
  const Overrides flags = {{"hidden_size", "40"}, {"learning_rate", "0.5"}};
  const ResolvedConfig config = resolve_config(file, flags);
  BOOST_TEST(config.name == "mine");
  BOOST_TEST(config.values.seed == 5);
  BOOST_TEST(config.values.hidden_size == 40);
  BOOST_TEST(config.values.learning_rate == 0.5);
  BOOST_TEST(config.values.num_layers == 2);
  // In the schema's order, and only values that are not the default.
  BOOST_TEST_REQUIRE(config.origins.size() == 3);
  BOOST_TEST(config.origins[0].key == "hidden_size");
  BOOST_TEST(config.origins[0].from == "flag");
  BOOST_TEST(config.origins[1].key == "learning_rate");
  BOOST_TEST(config.origins[2].key == "seed");
  BOOST_TEST(config.origins[2].from == "mine.toml");
}

BOOST_AUTO_TEST_CASE(an_integer_is_a_number_but_not_the_other_way_round) {
  BOOST_TEST(read("learning_rate = 2").values.learning_rate == 2.0);
  BOOST_TEST(complaint("\nnum_steps = 20.0") ==
             "num_steps: mine.toml:2: 20 is not an integer; give an integer from 1 to 65536");
  BOOST_TEST(flag_complaint("num_steps", "20.0") ==
             "--num-steps: 20 is not an integer; give an integer from 1 to 65536");
}

BOOST_AUTO_TEST_CASE(wrong_types_are_named) {
  BOOST_TEST(complaint("seed = \"one\"") ==
             "seed: mine.toml:1: \"one\" is not an integer; give an integer from 0 to "
             "9223372036854775807");
  BOOST_TEST(
      contains(complaint("keep_prob = true"), "mine.toml:1: a truth value is not a number; give"));
  BOOST_TEST(contains(complaint("data = 3"), "mine.toml:1: 3 is not a text in quotes"));
  BOOST_TEST(contains(complaint("data = [\"a\"]"), "an array"));
  BOOST_TEST(contains(complaint("timeout = 1979-05-27"), "a date or time"));
  BOOST_TEST(contains(complaint("seed = {a = 1}"), "a table"));
}

BOOST_AUTO_TEST_CASE(values_out_of_range_are_refused_alike_in_files_and_flags) {
  const std::pair<const char*, const char*> rows[] = {
      {"keep_prob", "0.0"},      {"keep_prob", "1.0000001"},
      {"keep_prob", "-0.1"},     {"learning_rate", "-1.0"},
      {"max_grad_norm", "0"},    {"lr_decay", "0.0"},
      {"num_layers", "0"},       {"num_layers", "256"},
      {"num_steps", "0"},        {"num_steps", "65537"},
      {"hidden_size", "262145"}, {"max_max_epoch", "1048577"},
      {"batch_size", "0"},       {"seed", "-1"},
      {"vocab_size", "0"},       {"eval_lanes", "0"},
      {"metrics_windows", "0"},  {"threads", "-1"},
      {"timeout", "0"},          {"hidden_size", "9223372036854775807"},
  };
  for (const auto& [key, text] : rows) {
    BOOST_TEST_CONTEXT(key << " = " << text) {
      BOOST_TEST(contains(complaint(fmt::format("{} = {}", key, text)), "is out of range; give a"));
      BOOST_TEST(contains(flag_complaint(key, text), "is out of range; give a"));
    }
  }
}

BOOST_AUTO_TEST_CASE(bounds_themselves_are_allowed) {
  BOOST_TEST(read("keep_prob = 1").values.keep_prob == 1.0);
  BOOST_TEST(read("keep_prob = 1e-6").values.keep_prob == 1e-6);
  BOOST_TEST(read("num_layers = 255").values.num_layers == 255);
  BOOST_TEST(read("max_max_epoch = 0").values.max_max_epoch == 0);
  BOOST_TEST(read("seed = 9223372036854775807").values.seed ==
             std::numeric_limits<std::int64_t>::max());
  BOOST_TEST(resolve_config("small", Overrides{{"seed", "9223372036854775807"}}).values.seed ==
             std::numeric_limits<std::int64_t>::max());
}

BOOST_AUTO_TEST_CASE(nan_and_inf_are_refused) {
  for (const char* text : {"nan", "inf", "-inf"}) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_TEST(
          contains(complaint(fmt::format("learning_rate = {}", text)), "is not a finite number"));
      BOOST_TEST(contains(flag_complaint("learning_rate", text), "is not a finite number"));
    }
  }
  BOOST_TEST(contains(complaint("learning_rate = 1e400"), "mine.toml:1"));
  BOOST_TEST(contains(flag_complaint("learning_rate", "1e400"), "\"1e400\" is not a number"));
}

BOOST_AUTO_TEST_CASE(a_flag_must_be_a_number_to_its_end) {
  for (const char* text : {"", "1x", " 1", "0x10", "1 2", "one", "+", "+-1"}) {
    BOOST_TEST_CONTEXT('"' << text << '"') {
      BOOST_TEST(contains(flag_complaint("seed", text), "is not an integer"));
      BOOST_TEST(contains(flag_complaint("learning_rate", text), "is not a number"));
    }
  }
  BOOST_TEST(contains(flag_complaint("seed", "99999999999999999999"), "is not an integer"));
  const Overrides flags = {{"learning_rate", "+1e-2"}, {"forget_bias", "-1"}};
  BOOST_TEST(resolve_config("small", flags).values.learning_rate == 0.01);
  BOOST_TEST(resolve_config("small", flags).values.forget_bias == -1.0);
}

BOOST_AUTO_TEST_CASE(choices_are_listed) {
  BOOST_TEST(complaint("scaling = \"strang\"") ==
             "scaling: mine.toml:1: \"strang\" is not a choice; give one of strong, weak");
  BOOST_TEST(contains(flag_complaint("precision", "fp16"), "give one of auto, fp32, tf32, bf16"));
}

BOOST_AUTO_TEST_CASE(unknown_keys_get_the_nearest_name) {
  BOOST_TEST(complaint("# a comment\n\nlerning_rate = 1") ==
             "unknown key \"lerning_rate\": mine.toml:3; did you mean \"learning_rate\"?");
  BOOST_TEST(contains(complaint("batch-size = 1"), "did you mean \"batch_size\"?"));
  BOOST_TEST(contains(complaint("epochs = 3"), "in a file it is called \"max_max_epoch\""));
  BOOST_TEST(contains(complaint("frobnicate = 1"), "--help lists them"));
  BOOST_TEST(contains(complaint("\"se\\u001bed\" = 1"), "unknown key \"se\\x1bed\""));
}

BOOST_AUTO_TEST_CASE(a_table_is_an_unknown_key) {
  BOOST_TEST(complaint("seed = 1\n[model]\nhidden_size = 3") ==
             "unknown key \"model\": mine.toml:2; keys stand at the top level, not in tables");
  BOOST_TEST(contains(complaint("model.hidden_size = 3"), "unknown key \"model\": mine.toml:1"));
  BOOST_TEST(contains(complaint("[[model]]\na = 1"), "unknown key \"model\": mine.toml:1"));
}

BOOST_AUTO_TEST_CASE(a_duplicate_key_is_one_line) {
  BOOST_TEST(complaint("seed = 1\nnum_steps = 2\nseed = 3\n") ==
             "duplicate key: mine.toml:3: cannot redefine existing integer 'seed'; "
             "keep one of the two");
}

BOOST_AUTO_TEST_CASE(all_complaints_come_at_once_in_the_order_of_lines) {
  const std::string text =
      "seed = -1\n"             // 1: out of range
      "lerning_rate = 1\n"      // 2: unknown
      "num_steps = \"many\"\n"  // 3: wrong type
      "hidden_size = 10\n"      //
      "batch_size 20\n"         // 5: no TOML
      "hidden_size = 20\n"      // 6: duplicate
      "keep_prob = nan\n";      // 7: not a number
  const auto lines = complaints_of([&text] { read(text); });
  BOOST_TEST_REQUIRE(lines.size() == 6);
  BOOST_TEST(contains(lines[0], "not TOML: mine.toml:5"));
  BOOST_TEST(contains(lines[1], "duplicate key: mine.toml:6"));
  BOOST_TEST(contains(lines[2], "mine.toml:1"));
  BOOST_TEST(contains(lines[3], "mine.toml:2"));
  BOOST_TEST(contains(lines[4], "mine.toml:3"));
  BOOST_TEST(contains(lines[5], "mine.toml:7"));
}

BOOST_AUTO_TEST_CASE(complaints_about_file_and_flags_come_together) {
  const TemporaryFolder folder;
  const std::string file = folder.write("mine.toml", "sed = 5\n");
  const Overrides flags = {{"hidden_size", "0"}};
  auto lines = complaints_of([&] { resolve_config(file, flags); });
  BOOST_TEST_REQUIRE(lines.size() == 2);
  BOOST_TEST(contains(lines[0], file + ":1"));
  BOOST_TEST(contains(lines[1], "--hidden-size: 0 is out of range"));
  lines = complaints_of([&] { resolve_config(file + ".gone.toml", flags); });
  BOOST_TEST_REQUIRE(lines.size() == 2);
  BOOST_TEST(contains(lines[0], "No such file"));
}

BOOST_AUTO_TEST_CASE(what_is_not_toml_is_refused_with_its_line) {
  const std::pair<const char*, const char*> rows[] = {
      {"seed = 1\nseed seed", "mine.toml:2"},
      {"seed =", "mine.toml:1"},
      {"data = \"abc", "mine.toml:1"},
      {"data = \"\"\"abc\n\n\n", "mine.toml:3"},
      {"seed = [1,\n2,\nx]\nnum_steps = 2", "mine.toml:3"},
      {"data = \"\xff\"", "mine.toml:1"},
      {"\x7f"
       "ELF\x02\x01",
       "mine.toml:1"},
      {"seed = 99999999999999999999", "mine.toml:1"},
  };
  for (const auto& [text, where] : rows) {
    BOOST_TEST_CONTEXT(escaped(text)) {
      const auto lines = complaints_of([&text = text] { read(text); });
      BOOST_TEST_REQUIRE(!lines.empty());
      BOOST_TEST(contains(lines[0], "not TOML"));
      BOOST_TEST(contains(lines[0], where));
    }
  }
}

BOOST_AUTO_TEST_CASE(hostile_files_end_with_a_complaint) {
  const TemporaryFolder folder;
  std::string dots = "a";
  while (dots.size() + 10 < 16 * 1024) dots += ".a";
  const std::string texts[] = {
      dots + " = 1",                         // nested as deeply as the size limit lets it be
      "[" + dots + "]",                      //
      "seed = " + std::string(16'000, '['),  //
      "seed = " + std::string(8'000, '{'),   //
      std::string(16'000, 'k') + " = 1",     //
      std::string(5'000, '\n') + "a = 1",    //
      [] {
        std::string lines;
        for (int i = 0; i < 2000; ++i) lines += "= x\n";
        return lines;
      }(),
      std::string(1000, '\0'),
  };
  for (const std::string& text : texts) {
    const std::string file = folder.write("hostile.toml", text);
    const auto lines = complaints_of([&file] { resolve_config(file, {}); });
    BOOST_TEST(lines.size() >= 1);
    BOOST_TEST(lines.size() <= 20);
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& path) {
    const auto lines = complaints_of([&path] { resolve_config(path, {}); });
    BOOST_TEST_REQUIRE(lines.size() == 1);
    BOOST_TEST(contains(lines[0], "--config: " + path + ": "));
    return lines[0];
  };
  BOOST_TEST(contains(refusal((folder.path / "gone.toml").string()), "No such file"));
  BOOST_TEST(contains(refusal(folder.path.string() + "/"), "is a folder"));
  const std::string fifo = (folder.path / "fifo.toml").string();
  BOOST_TEST_REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  BOOST_TEST(contains(refusal(fifo), "not a regular file"));
  BOOST_TEST(contains(refusal(folder.write("big.toml", std::string(10'000'000, ' '))),
                      "has 10.0 MB, a configuration has at most 16.4 kB"));
  const std::string loop = (folder.path / "loop.toml").string();
  fs::create_symlink(loop, loop);
  BOOST_TEST(contains(refusal(loop), "symbolic links"));
}

BOOST_AUTO_TEST_CASE(a_file_without_permission_is_refused,
                     *boost::unit_test::precondition(test::needs_other_user)) {
  const TemporaryFolder folder;
  fs::permissions(folder.path, fs::perms::owner_all | fs::perms::others_all);
  const std::string locked = folder.write("locked.toml", "seed = 1");
  fs::permissions(locked, fs::perms::none);
  const test::OtherUser user;
  const auto lines = complaints_of([&locked] { resolve_config(locked, {}); });
  BOOST_TEST_REQUIRE(lines.size() == 1);
  BOOST_TEST(contains(lines[0], "Permission denied"));
}

BOOST_AUTO_TEST_CASE(an_empty_file_means_the_defaults) {
  BOOST_TEST((read("").values == Config{}));
  BOOST_TEST(read("\n# nothing\n").origins.empty());
}

BOOST_AUTO_TEST_CASE(an_unknown_name_lists_the_shipped_ones) {
  auto lines = complaints_of([] { resolve_config("lrage", {}); });
  BOOST_TEST_REQUIRE(lines.size() == 1);
  BOOST_TEST(contains(lines[0], "(large, medium, small, test)"));
  BOOST_TEST(contains(lines[0], "did you mean \"large\"?"));
  lines = complaints_of([] { resolve_config("", {}); });
  BOOST_TEST_REQUIRE(lines.size() == 1);
}

BOOST_AUTO_TEST_CASE(the_echo_reads_back_to_the_same_values) {
  for (const char* name : {"test", "small", "medium", "large"}) {
    const ResolvedConfig config = resolve_config(name, {});
    BOOST_TEST((read(to_toml(config)).values == config.values), name);
  }
}

BOOST_AUTO_TEST_CASE(the_echo_keeps_every_text) {
  ResolvedConfig config{.name = "a\nb", .origins = {{"data", "c\nd.toml"}}};
  config.values.data = "a \"quoted\" \\ back\\\\slash # = [x]\t\n\r\x01\x7f 'single' \xe2\x82\xac";
  config.values.run_dir = "\"\"\"";
  config.values.init_from = "\\u0041\\";
  BOOST_TEST((read(to_toml(config)).values == config.values));
}

BOOST_AUTO_TEST_CASE(doubles_come_back_exactly) {
  std::mt19937_64 generator(1);
  std::uniform_real_distribution<double> exponent(-300, 12);
  ResolvedConfig config{.name = "x"};
  for (const double value : {1.0, 0.1, 1 / 1.15, 1e12, 1e-300, 5e-324, 123456789012.0}) {
    config.values.learning_rate = value;
    BOOST_TEST(read(to_toml(config)).values.learning_rate == value);
  }
  for (int i = 0; i < 300; ++i) {
    config.values.learning_rate = std::pow(10, exponent(generator));
    BOOST_TEST(read(to_toml(config)).values.learning_rate == config.values.learning_rate);
  }
}

BOOST_AUTO_TEST_CASE(texts_that_a_path_cannot_hold_are_refused) {
  BOOST_TEST(contains(complaint("data = \"a\\u0000b\""), "has a NUL byte"));
  BOOST_TEST(contains(flag_complaint("data", "a\xff"), "not UTF-8"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
