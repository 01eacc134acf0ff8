#include "io/checkpoint/checkpoint_config.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <string>

#include "io/hdf5/hdf5_attribute.hpp"
#include "io/hdf5/hdf5_dataset.hpp"

namespace ptb {
namespace {

using hdf5::Handle;

constexpr const char* kGroup = "/config";

void write_value(hid_t group, const std::string& name, double value, const Subject& subject) {
  hdf5::write_real(group, name, value, subject);
}
void write_value(hid_t group, const std::string& name, std::int64_t value, const Subject& subject) {
  hdf5::write_integer(group, name, value, subject);
}
void write_value(hid_t group, const std::string& name, const std::string& value,
                 const Subject& subject) {
  hdf5::write_text(group, name, value, subject);
}

void read_value(hid_t group, const std::string& name, double& value, const Subject& subject) {
  value = hdf5::read_real(group, name, subject);
}
void read_value(hid_t group, const std::string& name, std::int64_t& value, const Subject& subject) {
  value = hdf5::read_integer(group, name, subject);
}
void read_value(hid_t group, const std::string& name, std::string& value, const Subject& subject) {
  value = hdf5::read_text(group, name, subject);
}

// Without a setting that the run was made with, a resumed run would silently give other numbers.
void check_all_are_known(hid_t group, const Subject& subject, std::span<const Key> keys) {
  for (const std::string& name : hdf5::attribute_names(group, subject)) {
    const bool is_known = std::ranges::any_of(
        keys, [&name](const Key& key) { return key.is_mathematical && key.name == name; });
    if (is_known) continue;
    Subject newer = subject;
    newer.remedy = "use that ptb_dist, or give another checkpoint";
    throw newer.error(fmt::format(
        "a newer ptb_dist wrote it: this one does not know the setting \"{}\"", escaped(name)));
  }
}

}  // namespace

void write_config(hid_t file, const Config& config, const Subject& subject,
                  std::span<const Key> keys) {
  const Handle group = hdf5::create_group(file, kGroup, subject.at(kGroup));
  for (const Key& key : keys) {
    if (!key.is_mathematical || value_of(config, key) == key.value_before) continue;
    with_value(config, key,
               [&](const auto& value) { write_value(group, key.name, value, subject.at(kGroup)); });
  }
}

Config read_config(hid_t file, const Subject& of_file, std::span<const Key> keys) {
  const Subject subject = of_file.at(kGroup);
  const Handle group = hdf5::open_object(file, kGroup, H5I_GROUP, subject);
  check_all_are_known(group, subject, keys);
  Config config;
  for (const Key& key : keys) {
    if (!key.is_mathematical) continue;
    const bool is_older = key.value_before && !hdf5::has_attribute(group, key.name, subject);
    with_value(config, key, [&]<class Member>(Member& value) {
      if (is_older) {
        value = std::get<Member>(*key.value_before);
      } else {
        read_value(group, key.name, value, subject);
      }
    });
  }
  return config;
}

void check_config(const Config& config, const Subject& subject, std::span<const Key> keys) {
  for (const Key& key : keys) {
    if (!key.is_mathematical) continue;
    const Key::Value value = value_of(config, key);
    if (why_not_allowed(key, value).empty()) continue;
    throw subject.at(kGroup).error(
        fmt::format("{} is {}, and not {}", key.name, shown(value), key.allowed()));
  }
}

}  // namespace ptb
