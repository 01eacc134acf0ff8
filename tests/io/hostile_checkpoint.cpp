#include "io/hostile_checkpoint.hpp"

#include <boost/test/unit_test.hpp>
#include <numeric>
#include <utility>
#include <vector>

namespace ptb::test {
namespace {

void check(hid_t result) { BOOST_REQUIRE(result >= 0); }

hid_t space_of(const std::vector<hsize_t>& extents) {
  return H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
}

// The new dataset takes the name. The attributes of the old one are lost; a caller that needs those
// of /vocabulary copies them.
void put_dataset(hid_t file, const std::string& name, hid_t type, hid_t space, hid_t creation,
                 hid_t memory_type, const void* values) {
  if (H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0) {
    check(H5Ldelete(file, name.c_str(), H5P_DEFAULT));
  }
  const hid_t dataset =
      H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  check(dataset);
  if (values) check(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values));
  H5Dclose(dataset);
}

}  // namespace

void reseal(const std::filesystem::path& path, int step) {
  std::string text = content(path);
  std::string block = "ptb_dist checkpoint\nformat = 1\nbytes = " + std::to_string(text.size()) +
                      "\nxxh3_128 = " + std::string(32, '0') + "\nstep = " + std::to_string(step) +
                      "\n";
  block.resize(512);
  text.replace(0, 512, block);
  const auto bytes = std::as_bytes(std::span(text));
  put(path, SampleRun::text_of(sealed({.bytes = {bytes.begin(), bytes.end()}})));
}

void save_hostile(const std::filesystem::path& path, const FileChange& change) {
  SampleRun(ElementType::f32).save(path);
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);  // with all that a change has left open
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, access);
  check(file);
  change(file);
  check(H5Fclose(file));
  H5Pclose(access);
  reseal(path);
}

FileChange without(const std::string& object) {
  return [object](hid_t file) { check(H5Ldelete(file, object.c_str(), H5P_DEFAULT)); };
}

FileChange without_attribute(const std::string& object, const std::string& name) {
  return [=](hid_t file) {
    check(H5Adelete_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT));
  };
}

FileChange with_attribute(const std::string& object, const std::string& name, hid_t file_type,
                          hid_t type, const void* value) {
  return [=](hid_t file) {
    // A key with a value_before is not written if it has that value.
    if (H5Aexists_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT) > 0) {
      check(H5Adelete_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT));
    }
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate_by_name(file, object.c_str(), name.c_str(), file_type, space,
                                              H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    check(attribute);
    check(H5Awrite(attribute, type, value));
    H5Aclose(attribute);
    H5Sclose(space);
  };
}

FileChange with_integer(const std::string& object, const std::string& name, std::int64_t value) {
  return [=](hid_t file) {
    with_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value)(file);
  };
}

FileChange with_real(const std::string& object, const std::string& name, double value) {
  return [=](hid_t file) {
    with_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value)(file);
  };
}

FileChange with_text(const std::string& object, const std::string& name, const std::string& value) {
  return [=](hid_t file) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, value.size() + 1);
    with_attribute(object, name, type, type, value.c_str())(file);
    H5Tclose(type);
  };
}

FileChange with_dataset(const NewDataset& dataset) {
  const std::vector<hsize_t> extents(dataset.extents);  // the list's own array ends with this call
  return [extents, dataset](hid_t file) {
    const hsize_t count = std::accumulate(extents.begin(), extents.end(), hsize_t{1},
                                          [](hsize_t a, hsize_t b) { return a * b; });
    const std::vector<double> values(dataset.is_written ? count : 0, dataset.value);
    const hid_t space = space_of(extents), creation = H5Pcreate(H5P_DATASET_CREATE);
    dataset.storage(creation);
    put_dataset(file, dataset.name, dataset.type, space, creation, H5T_NATIVE_DOUBLE,
                dataset.is_written ? values.data() : nullptr);
    H5Pclose(creation);
    H5Sclose(space);
  };
}

FileChange with_bytes(const std::string& name, const std::string& bytes) {
  return [=](hid_t file) {
    const hid_t space = space_of({bytes.size()});
    put_dataset(file, name, H5T_STD_U8LE, space, H5P_DEFAULT, H5T_NATIVE_UINT8, bytes.data());
    H5Sclose(space);
  };
}

}  // namespace ptb::test
