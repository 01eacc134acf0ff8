// Runs code that must end with an Error, and returns its lines.
#pragma once

#include <boost/test/unit_test.hpp>
#include <functional>
#include <string>
#include <vector>

#include "ptb_dist/base/error.hpp"

namespace ptb {

// Empty, with a failed check, if there was no Error or one of another code.
inline std::vector<std::string> complaints_of(const std::function<void()>& action,
                                              ExitCode code = ExitCode::usage) {
  try {
    action();
  } catch (const Error& error) {
    BOOST_TEST(static_cast<int>(error.code()) == static_cast<int>(code));
    for (const std::string& line : error.lines()) {
      BOOST_TEST(line.find('\n') == std::string::npos);
    }
    return error.lines();
  }
  BOOST_ERROR("no error");
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace ptb
