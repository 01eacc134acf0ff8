#include "io/hdf5/hdf5_attribute.hpp"

#include <algorithm>
#include <cstddef>

namespace ptb::hdf5 {
namespace {

// The room in a header of the old format.
constexpr std::size_t kLongestText = std::size_t{64} << 10;

Handle open_attribute(hid_t object, const std::string& name, const Subject& subject) {
  const std::string attribute = "attribute " + name;
  if (!has_attribute(object, name, subject)) throw subject.error(attribute + " is missing");
  Handle handle(checked(H5Aopen(object, name.c_str(), H5P_DEFAULT), subject, "open an attribute"),
                H5Aclose);
  const Handle space(checked(H5Aget_space(handle), subject, "read an attribute"), H5Sclose);
  if (H5Sget_simple_extent_type(space) != H5S_SCALAR) {
    throw subject.error(attribute + " has more than one value, or none");
  }
  return handle;
}

template <class Value>
Value read_number(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type,
                  const char* in_words, const Subject& subject) {
  const Handle attribute = open_attribute(object, name, subject);
  const Handle type(checked(H5Aget_type(attribute), subject, "read an attribute"), H5Tclose);
  if (H5Tequal(type, file_type) <= 0) {
    throw subject.error(fmt::format("attribute {} is not {}", name, in_words));
  }
  Value value{};
  checked(H5Aread(attribute, memory_type, &value), subject, "read an attribute");
  return value;
}

void write_attribute(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type,
                     const void* value, const Subject& subject) {
  const Handle space(checked(H5Screate(H5S_SCALAR), subject, "add an attribute"), H5Sclose);
  const Handle attribute(
      checked(H5Acreate2(object, name.c_str(), file_type, space, H5P_DEFAULT, H5P_DEFAULT), subject,
              "add an attribute"),
      H5Aclose);
  checked(H5Awrite(attribute, memory_type, value), subject, "add an attribute");
}

}  // namespace

std::int64_t read_integer(hid_t object, const std::string& name, const Subject& subject) {
  return read_number<std::int64_t>(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                                   "a 64-bit little-endian integer", subject);
}

double read_real(hid_t object, const std::string& name, const Subject& subject) {
  return read_number<double>(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE,
                             "a 64-bit little-endian float", subject);
}

std::string read_text(hid_t object, const std::string& name, const Subject& subject) {
  const Handle attribute = open_attribute(object, name, subject);
  const Handle type(checked(H5Aget_type(attribute), subject, "read an attribute"), H5Tclose);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) {
    throw subject.error(fmt::format("attribute {} is not a text of fixed length", name));
  }
  if (H5Tget_size(type) > kLongestText) {
    throw subject.error(fmt::format("attribute {} is longer than attributes can be", name));
  }
  std::string text(H5Tget_size(type), '\0');
  checked(H5Aread(attribute, type, text.data()), subject, "read an attribute");
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

bool has_attribute(hid_t object, const std::string& name, const Subject& subject) {
  return checked(H5Aexists(object, name.c_str()), subject, "look up its attributes") > 0;
}

std::vector<std::string> attribute_names(hid_t object, const Subject& subject) {
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
    try {
      static_cast<std::vector<std::string>*>(to)->emplace_back(name);
      return 0;
    } catch (...) {  // the caller is C code
      return -1;
    }
  };
  hsize_t next = 0;
  checked(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &next, add, &names), subject,
          "list its attributes");
  return names;
}

void write_integer(hid_t object, const std::string& name, std::int64_t value,
                   const Subject& subject) {
  write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value, subject);
}

void write_real(hid_t object, const std::string& name, double value, const Subject& subject) {
  write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value, subject);
}

void write_text(hid_t object, const std::string& name, const std::string& value,
                const Subject& subject) {
  const Handle type(checked(H5Tcopy(H5T_C_S1), subject, "add an attribute"), H5Tclose);
  // HDF5 has no text of 0 bytes; NUL is padding.
  checked(H5Tset_size(type, std::max<std::size_t>(value.size(), 1)), subject, "add an attribute");
  checked(H5Tset_strpad(type, H5T_STR_NULLPAD), subject, "add an attribute");
  write_attribute(object, name, type, type, value.c_str(), subject);
}

}  // namespace ptb::hdf5
