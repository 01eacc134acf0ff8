// A table of settings that grows: it has new keys of every type, which the files do not have.
#include "io/checkpoint/checkpoint_config.hpp"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_packing.hpp"
#include "io/hdf5/hdf5_attribute.hpp"
#include "io/hdf5/hdf5_dataset.hpp"
#include "io/hdf5/hdf5_image.hpp"
#include "io/sample_checkpoint.hpp"

using namespace ptb;
using namespace ptb::test;

namespace {

using hdf5::Handle;

const Subject kSubject{.code = ExitCode::bad_data, .what = "checkpoint", .where = "a.h5"};

Key young(const std::string& name, Key::Member member, Key::Value before) {
  return {.name = name,
          .group = "",
          .member = member,
          .unit = "",
          .meaning = "",
          .low = 0,
          .high = 100,
          .is_mathematical = true,
          .value_before = std::move(before)};
}

// The schema, and a real, an integer and two texts after it. No value_before equals the key's
// default: the meaning of a file must not depend on later defaults.
std::vector<Key> grown() {
  std::vector<Key> keys = config_schema();
  keys.push_back(young("zoneout", &Config::timeout, 0.5));
  keys.push_back(young("averages", &Config::keep_checkpoints, std::int64_t{7}));
  keys.push_back(young("device", &Config::backend, "cpu"));
  keys.back().choices = {"cpu", "cuda"};
  keys.push_back(young("note", &Config::run_dir, "none"));
  return keys;
}

Config before() {
  Config config = SampleRun::make_info(ElementType::f32).config;
  config.timeout = 0.5;
  config.keep_checkpoints = 7;
  config.backend = "cpu";
  config.run_dir = "none";
  return config;
}

Config changed() {
  Config config = before();
  config.timeout = 0.75;
  config.keep_checkpoints = 8;
  config.backend = "cuda";
  config.run_dir = "";
  return config;
}

Handle file_with(const Config& config, std::span<const Key> keys) {
  Handle file = hdf5::create_in_memory(0, kSubject);
  write_config(file, config, kSubject, keys);
  return file;
}

std::vector<std::string> settings(hid_t file) {
  const Handle group = hdf5::open_object(file, "/config", H5I_GROUP, kSubject);
  return hdf5::attribute_names(group, kSubject);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_config)

BOOST_AUTO_TEST_CASE(settings_of_every_type_are_kept) {
  const Handle file = file_with(changed(), grown());
  const Config config = read_config(file, kSubject, grown());
  BOOST_TEST((config == changed()));
}

BOOST_AUTO_TEST_CASE(a_setting_with_the_value_of_before_is_not_written) {
  BOOST_TEST(settings(file_with(before(), grown())) ==
             settings(file_with(before(), config_schema())));
  BOOST_TEST(settings(file_with(changed(), grown())).size() ==
             settings(file_with(changed(), config_schema())).size() + 4);
}

BOOST_AUTO_TEST_CASE(an_older_file_has_the_values_of_before) {
  const Handle file = file_with(changed(), config_schema());
  BOOST_TEST((read_config(file, kSubject, grown()) == before()));
}

BOOST_AUTO_TEST_CASE(a_newer_file_is_refused_by_name) {
  const Handle file = file_with(changed(), grown());
  const Failure failure = failure_of([&] { read_config(file, kSubject); });
  BOOST_TEST(failure.code == 65);
  BOOST_TEST(failure.names("a.h5:/config: a newer ptb_dist wrote it: this one does not know the "
                           "setting \"averages\"; use that ptb_dist"),
             failure.line);
  BOOST_TEST(failure_of([&] { read_config(file_with(before(), grown()), kSubject); }).line == "");
}

BOOST_AUTO_TEST_CASE(values_are_checked_whatever_their_type) {
  const auto reason = [](auto change) {
    Config config = changed();
    change(config);
    return failure_of([&] { check_config(config, kSubject, grown()); });
  };
  BOOST_TEST(reason([](Config&) {}).line == "");
  BOOST_TEST(reason([](Config& c) {
               c.backend = "gr\nu";
             }).names("a.h5:/config: device is \"gr\\x0au\", and not one of cpu, cuda"));
  BOOST_TEST(reason([](Config& c) {
               c.timeout = 101;
             }).names("zoneout is 101, and not a number from 0 to 100"));
  BOOST_TEST(reason([](Config& c) {
               c.keep_checkpoints = -1;
             }).names("averages is -1, and not an integer from 0 to 100"));
  BOOST_TEST(reason([](Config& c) { c.run_dir = "\xff"; }).names("note is \"\\xff\", and not"));
}

BOOST_AUTO_TEST_CASE(settings_of_every_type_cross_the_pipe) {
  CheckpointContents contents{.info = SampleRun::make_info(ElementType::f32)};
  contents.info.config = changed();
  const std::string bytes = packed(contents, grown());
  BOOST_TEST((unpacked(bytes, kSubject, grown()).info.config == changed()));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string cut = bytes.substr(0, length);
    BOOST_TEST(failure_of([&] { unpacked(cut, kSubject, grown()); }).code == 65, length);
  }
}

BOOST_AUTO_TEST_SUITE_END()
