#include "io/hdf5/hdf5_image.hpp"

#include <algorithm>
#include <array>
#include <atomic>

namespace ptb::hdf5 {
namespace {

// The library's memory for a new file grows by this much at a time.
constexpr std::size_t kGrowth = std::size_t{16} << 20;
constexpr std::array<unsigned char, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

// A new name each time, because for the core driver two open files of one name are one file. A file
// that exists on the disk cannot be opened from memory; below /dev/null no file exists.
std::string unused_name() {
  static std::atomic<unsigned> last{0};
  return fmt::format("/dev/null/{}", ++last);
}

bool has_signature(std::span<const std::byte> bytes) {
  return bytes.size() >= kSignature.size() &&
         std::ranges::equal(bytes.first(kSignature.size()), std::as_bytes(std::span(kSignature)));
}

// The library asks these callbacks for room for an image and for copies of it. It gets the caller's
// own bytes; their address is the callbacks' datum. The file is read-only, so it writes to none.
void* lend(std::size_t, H5FD_file_image_op_t, void* bytes) { return bytes; }
void* copy_nothing(void* to, const void*, std::size_t, H5FD_file_image_op_t, void*) { return to; }
void* refuse_to_grow(void*, std::size_t, H5FD_file_image_op_t, void*) { return nullptr; }
herr_t keep(void*, H5FD_file_image_op_t, void*) { return 0; }
void* same(void* bytes) { return bytes; }
herr_t keep_datum(void*) { return 0; }

}  // namespace

Handle create_in_memory(std::size_t user_block, const Subject& subject) {
  start();
  const Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), subject, "begin"), H5Pclose);
  checked(H5Pset_fapl_core(access, kGrowth, false), subject, "begin");
  // HDF5 1.10 cannot open images in the newer formats again.
  checked(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST), subject, "begin");
  const Handle creation(checked(H5Pcreate(H5P_FILE_CREATE), subject, "begin"), H5Pclose);
  checked(H5Pset_obj_track_times(creation, false), subject, "begin");
  checked(H5Pset_userblock(creation, user_block), subject, "begin");
  return Handle(
      checked(H5Fcreate(unused_name().c_str(), H5F_ACC_TRUNC, creation, access), subject, "begin"),
      H5Fclose);
}

std::vector<std::byte> image_of(hid_t file, std::size_t user_block, const Subject& subject) {
  checked(H5Fflush(file, H5F_SCOPE_GLOBAL), subject, "end");
  const ssize_t size = checked(H5Fget_file_image(file, nullptr, 0), subject, "end");
  std::vector<std::byte> image(user_block + static_cast<std::size_t>(size));
  const std::span<std::byte> got = std::span(image).subspan(user_block);
  checked(H5Fget_file_image(file, got.data(), got.size()), subject, "end");
  // HDF5 1.10 leaves the user block out of the image, though its manual says otherwise.
  const bool is_in = !has_signature(got);
  if (is_in) image.erase(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(user_block));
  require(has_signature(std::span(image).subspan(user_block)), "HDF5 gives the image of a file");
  return image;
}

Handle open_image(std::span<const std::byte> image, const Subject& subject) {
  start();
  const Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), subject, "open"), H5Pclose);
  checked(H5Pset_fapl_core(access, kGrowth, false), subject, "open");
  void* const bytes = const_cast<std::byte*>(image.data());
  H5FD_file_image_callbacks_t callbacks = {lend, copy_nothing, refuse_to_grow, keep,
                                           same, keep_datum,   bytes};
  checked(H5Pset_file_image_callbacks(access, &callbacks), subject, "open");
  checked(H5Pset_file_image(access, bytes, image.size()), subject, "open");
  return Handle(
      checked(H5Fopen(unused_name().c_str(), H5F_ACC_RDONLY, access), subject, "open as HDF5"),
      H5Fclose);
}

}  // namespace ptb::hdf5
