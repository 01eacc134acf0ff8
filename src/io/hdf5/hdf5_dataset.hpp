// Datasets of the project's files. A file may be hostile: a dataset is checked before memory is
// allocated for it and before it is read.
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
// For files of any tool: 32- or 64-bit IEEE floats of either byte order, with or without chunks.
Storage any_reals();
// As write_dataset writes them.
Storage plain(ElementType type);

// Opens the object by hard links only: soft and external links may lead elsewhere, even to other
// files. `kind` is H5I_GROUP or H5I_DATASET.
Handle open_object(hid_t file, const std::string& name, H5I_type_t kind, const Subject& subject);

// Adds a group without time stamps.
Handle create_group(hid_t file, const std::string& name, const Subject& subject);

// Number of elements of a dataset with one axis.
std::int64_t length_of(hid_t dataset, const Subject& subject);

// Checks that the dataset has the shape and an allowed storage, and is completely in this file.
void check_dataset(hid_t dataset, const Shape& shape, const Storage& storage,
                   const Subject& subject);

// Reads all elements of a checked dataset, converted to `type`; `to` has as many bytes as they
// need.
void read_dataset(hid_t dataset, ElementType type, std::span<std::byte> to, const Subject& subject);

// The first byte in the file of the elements of a checked, plain dataset.
std::int64_t offset_of(hid_t dataset, const Subject& subject);

// Adds a little-endian, contiguous dataset without time stamps, and the groups above it.
void write_dataset(hid_t file, const std::string& name, ElementType type, const Shape& shape,
                   std::span<const std::byte> values, const Subject& subject);

}  // namespace ptb::hdf5
