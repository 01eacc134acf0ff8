#include "support/requirements.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

namespace ptb::test {

bool required(std::string_view name) {
  const char* list = std::getenv("PTB_DIST_REQUIRE");
  for (std::string_view rest = list != nullptr ? list : ""; !rest.empty();) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    if (rest.substr(0, end) == name) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

std::optional<std::filesystem::path> ptb_folder() {
  const char* folder = std::getenv("PTB_DATA");
  if (folder != nullptr && *folder != '\0') return folder;
  if (required("ptb")) throw std::runtime_error("PTB_DIST_REQUIRE has ptb, but PTB_DATA is unset");
  return std::nullopt;
}

boost::test_tools::assertion_result needs_ptb(boost::unit_test::test_unit_id test) {
  const char* folder = std::getenv("PTB_DATA");
  // Where it is required the test runs, and fails in ptb_folder().
  if ((folder != nullptr && *folder != '\0') || required("ptb")) return true;
  // Boost.Test tells why it skips only at a log level that nobody reads.
  std::cout << "skipped: "
            << boost::unit_test::framework::get(test, boost::unit_test::TUT_ANY).full_name()
            << ": PTB_DATA is unset\n";
  return false;
}

}  // namespace ptb::test
