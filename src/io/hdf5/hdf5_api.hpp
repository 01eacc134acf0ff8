// HDF5's C API with owned identifiers and checked calls. The only file that includes hdf5.h.
#pragma once

#include <fmt/format.h>
#include <hdf5.h>

#include <string>
#include <utility>

#include "io/files/subject.hpp"

namespace ptb::hdf5 {

// Owns an identifier of any kind.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;

  operator hid_t() const { return id_; }  // so that it is passed like any hid_t

 private:
  hid_t id_;
  Close close_;
};

// Must be called before any other function. Switches off traces on standard error (errors are
// thrown instead) and filter plug-ins, with which a file could have code run.
inline void start() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

// The library's own reason for the failure of the last call: the innermost one.
inline std::string last_error() {
  std::string message = "no reason given";
  const auto take_first = [](unsigned depth, const H5E_error2_t* error, void* text) -> herr_t {
    if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &message);
  return message;
}

// The result of an HDF5 call (identifier, status, count, enumerator); negative is failure. `action`
// completes "cannot ...".
template <class Result>
Result checked(Result result, const Subject& subject, const char* action) {
  if (static_cast<long long>(result) < 0) {
    throw subject.error(fmt::format("cannot {}: {}", action, last_error()));
  }
  return result;
}

}  // namespace ptb::hdf5
