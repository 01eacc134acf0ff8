#include "io/hdf5/hdf5_dataset.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace ptb::hdf5 {
namespace {

// A chunk of up to this many elements may be larger than its dataset: tools choose such chunks for
// datasets that grow.
constexpr hsize_t kHarmlessChunk = 1 << 20;
// Elements that were never written read as zeros, which look like weights.
constexpr const char* kUnwritten = "was never written, or not wholly";

// One element in memory, in a file that we write, and in messages.
struct TypeNames {
  hid_t memory;
  hid_t file;
  const char* in_words;
};

TypeNames names_of(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return {H5T_NATIVE_FLOAT, H5T_IEEE_F32LE, "32-bit little-endian IEEE floats"};
    case ElementType::f64:
      return {H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE, "64-bit little-endian IEEE floats"};
    case ElementType::i32:
      return {H5T_NATIVE_INT32, H5T_STD_I32LE, "32-bit little-endian integers"};
    case ElementType::u8:
      return {H5T_NATIVE_UINT8, H5T_STD_U8LE, "bytes"};
  }
  return {H5I_INVALID_HID, H5I_INVALID_HID, ""};
}

void check_links(hid_t file, const std::string& name, const Subject& subject) {
  for (std::size_t end = name.find('/', 1);; end = name.find('/', end + 1)) {
    const std::string link = name.substr(0, end);
    if (checked(H5Lexists(file, link.c_str(), H5P_DEFAULT), subject, "look it up") == 0) {
      throw subject.error(link == name ? "is missing" : fmt::format("{} is missing", link));
    }
    H5L_info_t info{};
    checked(H5Lget_info(file, link.c_str(), &info, H5P_DEFAULT), subject, "look it up");
    if (info.type != H5L_TYPE_HARD) {
      throw subject.error(fmt::format("{} is a soft or external link, which is refused", link));
    }
    if (end == std::string::npos) return;
  }
}

std::vector<hsize_t> extents_of(hid_t dataset, const Subject& subject) {
  const Handle space(checked(H5Dget_space(dataset), subject, "read its shape"), H5Sclose);
  const int rank = checked(H5Sget_simple_extent_ndims(space), subject, "read its shape");
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  checked(H5Sget_simple_extent_dims(space, extents.data(), nullptr), subject, "read its shape");
  return extents;
}

void check_type(hid_t dataset, const Storage& storage, const Subject& subject) {
  const Handle type(checked(H5Dget_type(dataset), subject, "read its type"), H5Tclose);
  if (std::ranges::none_of(storage.types, [&](hid_t one) { return H5Tequal(type, one) > 0; })) {
    throw subject.error(fmt::format("is not of {}", storage.types_in_words));
  }
}

void check_shape(hid_t dataset, const Shape& wanted, const Subject& subject) {
  const std::string shape = fmt::format("[{}]", fmt::join(extents_of(dataset, subject), ","));
  if (shape != wanted.text()) {
    throw subject.error(fmt::format("has shape {}, the model needs {}", shape, wanted.text()));
  }
}

// A chunk is read into memory whole, so its size is checked. All chunks must exist.
void check_chunks(hid_t dataset, hid_t creation, const Shape& shape, const Subject& subject) {
  std::array<hsize_t, H5S_MAX_RANK> extents{};
  checked(H5Pget_chunk(creation, H5S_MAX_RANK, extents.data()), subject, "read its chunks");
  hsize_t room = std::max(kHarmlessChunk, static_cast<hsize_t>(shape.elements()));
  hsize_t chunks = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const hsize_t extent = extents[static_cast<std::size_t>(axis)];
    if (extent == 0 || extent > room) throw subject.error("has chunks larger than itself");
    room /= extent;
    chunks *= (static_cast<hsize_t>(shape[axis]) + extent - 1) / extent;
  }
  const Handle all(checked(H5Dget_space(dataset), subject, "count its chunks"), H5Sclose);
  hsize_t written = 0;
  checked(H5Dget_num_chunks(dataset, all, &written), subject, "count its chunks");
  if (written != chunks) throw subject.error(kUnwritten);
}

// For a dataset without chunks. An empty one needs no storage.
void check_is_written(hid_t dataset, const Shape& shape, const Subject& subject) {
  if (shape.elements() == 0) return;
  H5D_space_status_t status = H5D_SPACE_STATUS_ERROR;
  checked(H5Dget_space_status(dataset, &status), subject, "read its storage");
  if (status != H5D_SPACE_STATUS_ALLOCATED) throw subject.error(kUnwritten);
}

void check_filters(hid_t creation, const Subject& subject) {
  const int filters = checked(H5Pget_nfilters(creation), subject, "read its filters");
  for (unsigned index = 0; index < static_cast<unsigned>(filters); ++index) {
    unsigned flags = 0;
    std::size_t no_values = 0;
    const H5Z_filter_t filter =
        checked(H5Pget_filter2(creation, index, &flags, &no_values, nullptr, 0, nullptr, nullptr),
                subject, "read its filters");
    if (filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_DEFLATE &&
        filter != H5Z_FILTER_FLETCHER32) {
      throw subject.error(fmt::format("uses filter {}; only shuffle, gzip and fletcher32 are read",
                                      static_cast<int>(filter)));
    }
  }
}

// All bytes must be in this file, and reading them may run no plug-in and take no more memory than
// the shape implies.
void check_storage(hid_t dataset, const Shape& shape, bool is_plain, const Subject& subject) {
  const Handle creation(checked(H5Dget_create_plist(dataset), subject, "read its storage"),
                        H5Pclose);
  const H5D_layout_t layout = checked(H5Pget_layout(creation), subject, "read its storage");
  if (layout == H5D_VIRTUAL || checked(H5Pget_external_count(creation), subject, "read it") != 0) {
    throw subject.error("is stored in other files, which is refused");
  }
  if (is_plain && layout != H5D_CONTIGUOUS) throw subject.error("is not stored contiguously");
  if (layout == H5D_CHUNKED) {
    check_chunks(dataset, creation, shape, subject);
  } else {
    check_is_written(dataset, shape, subject);
  }
  check_filters(creation, subject);
}

}  // namespace

Storage any_reals() {
  return {.types = {H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE, H5T_IEEE_F64BE},
          .types_in_words = "32- or 64-bit IEEE floats",
          .is_plain = false};
}

Storage plain(ElementType type) {
  const TypeNames names = names_of(type);
  return {.types = {names.file}, .types_in_words = names.in_words, .is_plain = true};
}

Handle open_object(hid_t file, const std::string& name, H5I_type_t kind, const Subject& subject) {
  check_links(file, name, subject);
  Handle object(checked(H5Oopen(file, name.c_str(), H5P_DEFAULT), subject, "open it"), H5Oclose);
  if (H5Iget_type(object) != kind) {
    throw subject.error(kind == H5I_GROUP ? "is not a group" : "is not a dataset");
  }
  return object;
}

Handle create_group(hid_t file, const std::string& name, const Subject& subject) {
  return Handle(checked(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                        subject, "add it"),
                H5Gclose);
}

std::int64_t length_of(hid_t dataset, const Subject& subject) {
  const std::vector<hsize_t> extents = extents_of(dataset, subject);
  if (extents.size() != 1) throw subject.error(fmt::format("has {} axes, not 1", extents.size()));
  return static_cast<std::int64_t>(extents[0]);
}

void check_dataset(hid_t dataset, const Shape& shape, const Storage& storage,
                   const Subject& subject) {
  check_type(dataset, storage, subject);
  check_shape(dataset, shape, subject);
  check_storage(dataset, shape, storage.is_plain, subject);
}

void read_dataset(hid_t dataset, ElementType type, std::span<std::byte> to,
                  const Subject& subject) {
  checked(H5Dread(dataset, names_of(type).memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, to.data()),
          subject, "read it");
}

std::int64_t offset_of(hid_t dataset, const Subject& subject) {
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) throw subject.error("is nowhere in the file");
  return static_cast<std::int64_t>(offset);
}

void write_dataset(hid_t file, const std::string& name, ElementType type, const Shape& shape,
                   std::span<const std::byte> values, const Subject& subject) {
  std::vector<hsize_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    extents.push_back(static_cast<hsize_t>(shape[axis]));
  }
  const Handle space(
      checked(H5Screate_simple(shape.rank(), extents.data(), nullptr), subject, "add it"),
      H5Sclose);
  const Handle links(checked(H5Pcreate(H5P_LINK_CREATE), subject, "add it"), H5Pclose);
  checked(H5Pset_create_intermediate_group(links, 1), subject, "add it");
  const Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), subject, "add it"), H5Pclose);
  checked(H5Pset_obj_track_times(creation, false), subject, "add it");
  const Handle dataset(checked(H5Dcreate2(file, name.c_str(), names_of(type).file, space, links,
                                          creation, H5P_DEFAULT),
                               subject, "add it"),
                       H5Dclose);
  checked(H5Dwrite(dataset, names_of(type).memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
          subject, "add it");
}

}  // namespace ptb::hdf5
