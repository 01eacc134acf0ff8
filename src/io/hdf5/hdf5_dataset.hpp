// Datasets of the project's files. What is read may be hostile: a dataset is found to be what it
// must be before anything is allocated for it or read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/backend/tensor.hpp"

namespace ptb::hdf5 {

// How a dataset may be stored in a file that is read.
struct Storage {
  std::vector<hid_t> types;  // one of these, exactly
  const char* types_in_words;
  bool is_plain;  // contiguous; else also compact, or in chunks, with the usual filters
};
// Made by whatever tool: 32- or 64-bit IEEE floats of either byte order, in chunks or not.
Storage any_reals();
// As write_dataset does.
Storage plain(ElementType type);

// The object, to which only hard links lead: soft and external ones lead elsewhere, even to other
// files. `kind` is H5I_GROUP or H5I_DATASET.
Handle open_object(hid_t file, const std::string& name, H5I_type_t kind, const Subject& subject);

// Adds a group without times.
Handle create_group(hid_t file, const std::string& name, const Subject& subject);

// Elements of a dataset that has one axis.
std::int64_t length_of(hid_t dataset, const Subject& subject);

// That it has the shape, is stored in one of the ways allowed, wholly, and in this file.
void check_dataset(hid_t dataset, const Shape& shape, const Storage& storage,
                   const Subject& subject);

// All elements of a checked dataset, converted to `type`; `to` has their bytes.
void read_dataset(hid_t dataset, ElementType type, std::span<std::byte> to, const Subject& subject);

// Where the elements of a checked, plain dataset begin, in bytes of the file.
std::int64_t offset_of(hid_t dataset, const Subject& subject);

// Adds a little-endian, contiguous dataset, without times, and the groups above it.
void write_dataset(hid_t file, const std::string& name, ElementType type, const Shape& shape,
                   std::span<const std::byte> values, const Subject& subject);

}  // namespace ptb::hdf5
