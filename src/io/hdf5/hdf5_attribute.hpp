// Attributes with one value: 64-bit integers and floats, and texts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"

namespace ptb::hdf5 {

// The subject's error, with the attribute's name, if it is missing, no scalar, or not of exactly
// this type (little endian). `object` is open.
std::int64_t read_integer(hid_t object, const std::string& name, const Subject& subject);
double read_real(hid_t object, const std::string& name, const Subject& subject);
std::string read_text(hid_t object, const std::string& name, const Subject& subject);

bool has_attribute(hid_t object, const std::string& name, const Subject& subject);
// The names of all its attributes, in ascending order.
std::vector<std::string> attribute_names(hid_t object, const Subject& subject);

void write_integer(hid_t object, const std::string& name, std::int64_t value,
                   const Subject& subject);
void write_real(hid_t object, const std::string& name, double value, const Subject& subject);
// Texts of fixed length, without NUL. A text of variable length is a reference into a heap, which
// would give a hostile file more ways to attack.
void write_text(hid_t object, const std::string& name, const std::string& value,
                const Subject& subject);

}  // namespace ptb::hdf5
