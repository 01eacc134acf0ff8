#include "ptb_dist/io/parameters_file.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "io/file.hpp"
#include "io/hdf5_api.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;
using hdf5::checked;
using hdf5::Handle;
using hdf5::Subject;

constexpr const char* kWhat = "parameter file";
// A chunk of so many elements may be larger than its dataset: tools choose it for growing ones.
constexpr hsize_t kHarmlessChunk = 1 << 20;

hid_t memory_type(ElementType real) {
  return real == ElementType::f64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
}

// --- load: nothing is allocated or read before the file has been found to be as the table says ---

// Looked at before HDF5 opens it: a FIFO or a device would hang or feed us forever.
void check_is_regular_file(const fs::path& path) {
  const RegularFile file = open_regular(path);
  if (file.error_number != 0) throw io_error(kWhat, path, file.error_number);
  if (file.refusal.empty()) return;
  throw Error(
      ExitCode::bad_data,
      {.what = kWhat, .where = path.string(), .why = file.refusal, .remedy = "give an HDF5 file"});
}

Handle open_file(const fs::path& path) {
  check_is_regular_file(path);
  hdf5::start();
  const Subject subject{.code = ExitCode::bad_data,
                        .what = kWhat,
                        .where = path.string(),
                        .remedy = "give a complete HDF5 file"};
  const Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), subject, "open"), H5Pclose);
  // Reading needs no lock, and not every network file system has them.
  checked(H5Pset_file_locking(access, false, true), subject, "open");
  return Handle(checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), subject, "open as HDF5"),
                H5Fclose);
}

// Every link of the path must be a hard one: soft and external links lead elsewhere, even to other
// files.
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

Handle open_dataset(hid_t file, const std::string& name, const Subject& subject) {
  check_links(file, name, subject);
  Handle object(checked(H5Oopen(file, name.c_str(), H5P_DEFAULT), subject, "open it"), H5Oclose);
  if (H5Iget_type(object) != H5I_DATASET) throw subject.error("is not a dataset");
  return object;
}

void check_type(hid_t dataset, const Subject& subject) {
  const Handle type(checked(H5Dget_type(dataset), subject, "read its type"), H5Tclose);
  const std::array allowed{H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE, H5T_IEEE_F64BE};
  if (std::ranges::none_of(allowed, [&](hid_t one) { return H5Tequal(type, one) > 0; })) {
    throw subject.error("is not of 32- or 64-bit IEEE floats");
  }
}

void check_shape(hid_t dataset, const Shape& wanted, const Subject& subject) {
  const Handle space(checked(H5Dget_space(dataset), subject, "read its shape"), H5Sclose);
  const int rank = checked(H5Sget_simple_extent_ndims(space), subject, "read its shape");
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  checked(H5Sget_simple_extent_dims(space, extents.data(), nullptr), subject, "read its shape");
  const std::string shape = fmt::format("[{}]", fmt::join(extents, ","));
  if (shape != wanted.text()) {
    throw subject.error(fmt::format("has shape {}, the model needs {}", shape, wanted.text()));
  }
}

// What was never written reads as zeros, which would pass for weights.
constexpr const char* kUnwritten = "was never written, or not wholly";

// A chunk is read into memory as a whole. All of them must be there.
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

// All bytes lie in this file, and reading takes no code or memory beyond what the model implies.
void check_storage(hid_t dataset, const Shape& shape, const Subject& subject) {
  const Handle creation(checked(H5Dget_create_plist(dataset), subject, "read its storage"),
                        H5Pclose);
  const H5D_layout_t layout = checked(H5Pget_layout(creation), subject, "read its storage");
  if (layout == H5D_VIRTUAL || checked(H5Pget_external_count(creation), subject, "read it") != 0) {
    throw subject.error("is stored in other files, which is refused");
  }
  if (layout == H5D_CHUNKED) check_chunks(dataset, creation, shape, subject);
  // Not asked of chunks, whose status takes what compression has saved for unwritten.
  H5D_space_status_t status = H5D_SPACE_STATUS_ERROR;
  checked(H5Dget_space_status(dataset, &status), subject, "read its storage");
  if (layout != H5D_CHUNKED && status != H5D_SPACE_STATUS_ALLOCATED) {
    throw subject.error(kUnwritten);
  }
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

template <class Real>
void check_is_finite(std::span<const Real> values, const Shape& shape, const Subject& subject) {
  const auto bad = std::ranges::find_if(values, [](Real value) { return !std::isfinite(value); });
  if (bad == values.end()) return;
  std::vector<std::int64_t> place(static_cast<std::size_t>(shape.rank()));
  std::int64_t rest = bad - values.begin();
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    place[static_cast<std::size_t>(axis)] = rest % shape[axis];
    rest /= shape[axis];
  }
  throw subject.error(fmt::format("the value at [{}] is {} as a {}-bit float",
                                  fmt::join(place, ","), *bad, 8 * sizeof(Real)));
}

template <class Real>
void load_entry(hid_t file, const fs::path& path, const ParameterInfo& entry, Backend& backend,
                const Tensor& to) {
  const Subject subject{.code = ExitCode::bad_data,
                        .what = kWhat,
                        .where = path.string() + ':' + entry.name,
                        .remedy = "give a file made for this configuration"};
  const Handle dataset = open_dataset(file, entry.name, subject);
  check_type(dataset, subject);
  check_shape(dataset, entry.shape, subject);
  check_storage(dataset, entry.shape, subject);
  std::vector<Real> values(static_cast<std::size_t>(entry.shape.elements()));
  checked(H5Dread(dataset, memory_type(to.type()), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
          subject, "read it");
  check_is_finite<Real>(values, entry.shape, subject);
  backend.upload(to, std::as_bytes(std::span(values)));
}

// --- save: the library works in memory, where no disk can fail it ---

Handle create_in_memory(const Subject& subject) {
  const Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), subject, "begin"), H5Pclose);
  // HDF5 1.10 crashes at exit when a disk is full, so that it never sees one; and images in its
  // newer formats do not open again.
  checked(H5Pset_fapl_core(access, std::size_t{16} << 20, false), subject, "begin");
  checked(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST), subject, "begin");
  const Handle creation(checked(H5Pcreate(H5P_FILE_CREATE), subject, "begin"), H5Pclose);
  checked(H5Pset_obj_track_times(creation, false), subject, "begin");
  return Handle(checked(H5Fcreate("memory", H5F_ACC_TRUNC, creation, access), subject, "begin"),
                H5Fclose);
}

void add_dataset(hid_t file, const ParameterInfo& entry, ElementType real,
                 std::span<const std::byte> values, const Subject& subject) {
  std::vector<hsize_t> extents;
  for (int axis = 0; axis < entry.shape.rank(); ++axis) {
    extents.push_back(static_cast<hsize_t>(entry.shape[axis]));
  }
  const Handle space(
      checked(H5Screate_simple(entry.shape.rank(), extents.data(), nullptr), subject, "add it"),
      H5Sclose);
  const Handle links(checked(H5Pcreate(H5P_LINK_CREATE), subject, "add it"), H5Pclose);
  checked(H5Pset_create_intermediate_group(links, 1), subject, "add it");
  const Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), subject, "add it"), H5Pclose);
  checked(H5Pset_obj_track_times(creation, false), subject, "add it");
  const hid_t file_type = real == ElementType::f64 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
  const Handle dataset(
      checked(H5Dcreate2(file, entry.name.c_str(), file_type, space, links, creation, H5P_DEFAULT),
              subject, "add it"),
      H5Dclose);
  checked(H5Dwrite(dataset, memory_type(real), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
          subject, "add it");
}

std::vector<std::byte> image_of(hid_t file, const Subject& subject) {
  checked(H5Fflush(file, H5F_SCOPE_GLOBAL), subject, "end");
  const ssize_t size = checked(H5Fget_file_image(file, nullptr, 0), subject, "end");
  std::vector<std::byte> image(static_cast<std::size_t>(size));
  checked(H5Fget_file_image(file, image.data(), image.size()), subject, "end");
  return image;
}

}  // namespace

void load_parameters(const fs::path& path, Backend& backend, Parameters& parameters) {
  const Handle file = open_file(path);
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const Tensor to = parameters.tensor(index);
    if (to.type() == ElementType::f64) {
      load_entry<double>(file, path, entries[index], backend, to);
    } else {
      load_entry<float>(file, path, entries[index], backend, to);
    }
  }
  parameters.touch();
}

void save_parameters(const fs::path& path, Backend& backend, const Parameters& parameters) {
  hdf5::start();
  Subject subject{.code = ExitCode::missing,
                  .what = "building a parameter file in memory",
                  .where = path.string(),
                  .remedy = "free some memory"};
  const Handle file = create_in_memory(subject);
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const Tensor from = parameters.tensor(index);
    std::vector<std::byte> values(from.bytes());
    backend.download(from, values);
    subject.where = path.string() + ':' + entries[index].name;
    add_dataset(file, entries[index], from.type(), values, subject);
  }
  replace_file(kWhat, path, image_of(file, subject));
}

void check_can_save_parameters(const fs::path& path) { check_replaceable(kWhat, path); }

}  // namespace ptb
