// How messages name a file that is read or built.
#pragma once

#include <string>

#include "ptb_dist/base/error.hpp"

namespace ptb {

// The subject of a sequence of calls, for the message of a call that fails.
struct Subject {
  ExitCode code;
  std::string what;
  std::string where{};  // file, or file:object
  std::string remedy{};

  // An object of this file.
  Subject at(const std::string& object) const {
    return {.code = code, .what = what, .where = where + ':' + object, .remedy = remedy};
  }

  Error error(const std::string& why) const {
    return Error(code, {.what = what, .where = where, .why = why, .remedy = remedy});
  }
};

}  // namespace ptb
