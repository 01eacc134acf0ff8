// The settings in a checkpoint: an attribute of /config for every mathematical key of the schema.
//
// A new key needs no change here: it may be a number or a text, and Key::value_before is its value
// in files without it. `keys` are the schema's, or a test's own.
#pragma once

#include <span>

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/base/config.hpp"

namespace ptb {

// Writes /config. Keys that have their value_before are left out.
void write_config(hid_t file, const Config& config, const Subject& subject,
                  std::span<const Key> keys = config_schema());
// The subject's error if a key without a value_before is missing, if an attribute has another type
// than its key, or if an attribute is no key: then a newer ptb_dist has written the file. `subject`
// is the file's.
Config read_config(hid_t file, const Subject& subject, std::span<const Key> keys = config_schema());
// The subject's error for the first value that its key does not allow.
void check_config(const Config& config, const Subject& subject,
                  std::span<const Key> keys = config_schema());

}  // namespace ptb
