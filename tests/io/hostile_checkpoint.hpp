// Checkpoints that were changed with HDF5's own functions and got a correct size and digest again,
// so that only the reader's checks of their structure can refuse them.
#pragma once

#include <hdf5.h>

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>

#include "io/sample_checkpoint.hpp"

namespace ptb::test {

// By the C API; handles that die with the file are not closed.
using FileChange = std::function<void(hid_t file)>;

// The first 512 bytes of the format, for any bytes after them.
void reseal(const std::filesystem::path& path, int step = 19);

// A good checkpoint (f32), changed and sealed again.
void save_hostile(const std::filesystem::path& path, const FileChange& change);

// --- changes -------------------------------------------------------------------------------------

FileChange without(const std::string& object);
FileChange without_attribute(const std::string& object, const std::string& name);
// An attribute with another value, or of another type than its own. `type` is a native one.
FileChange with_attribute(const std::string& object, const std::string& name, hid_t file_type,
                          hid_t type, const void* value);
FileChange with_integer(const std::string& object, const std::string& name, std::int64_t value);
FileChange with_real(const std::string& object, const std::string& name, double value);
FileChange with_text(const std::string& object, const std::string& name, const std::string& value);

// A dataset in the place of another. Its values, if any, are doubles or bytes to be converted.
struct NewDataset {
  std::string name;
  std::initializer_list<hsize_t> extents;
  hid_t type = H5T_IEEE_F32LE;
  std::function<void(hid_t creation)> storage = [](hid_t) {};
  double value = 0.5;  // of every element
  bool is_written = true;
};
FileChange with_dataset(const NewDataset& dataset);
FileChange with_bytes(const std::string& name, const std::string& bytes);

}  // namespace ptb::test
