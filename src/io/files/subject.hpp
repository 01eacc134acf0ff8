// What messages say of a file that is read or built.
#pragma once

#include <string>

#include "ptb_dist/base/error.hpp"

namespace ptb {

// What a sequence of calls is about, for the message of any that fails.
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
