#include "support/requirements.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

namespace ptb::test {
namespace {

constexpr uid_t kRoot = 0;
constexpr uid_t kNobody = 65534;
constexpr int kSkipped = 77;  // of rights.py

// Boost.Test tells why it skips only at a log level that nobody reads.
bool skip(boost::unit_test::test_unit_id test, std::string_view why) {
  std::cout << "skipped: "
            << boost::unit_test::framework::get(test, boost::unit_test::TUT_ANY).full_name() << ": "
            << why << '\n';
  return false;
}

}  // namespace

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
  return skip(test, "PTB_DATA is unset");
}

boost::test_tools::assertion_result needs_other_user(boost::unit_test::test_unit_id test) {
  std::FILE* const probe = ::popen(PTB_DIST_RIGHTS " other_user", "r");
  if (probe == nullptr) throw std::runtime_error("cannot start " PTB_DIST_RIGHTS);
  std::string why;
  for (int c = 0; (c = std::fgetc(probe)) != EOF && c != '\n';) why += static_cast<char>(c);
  const int status = ::pclose(probe);
  // With any other status the test runs, and fails by itself.
  return !(WIFEXITED(status) && WEXITSTATUS(status) == kSkipped) || skip(test, why);
}

OtherUser::OtherUser() : was_root_(::geteuid() == kRoot) {
  if (was_root_ && ::seteuid(kNobody) != 0) {
    throw std::runtime_error("root may not become another user here");
  }
}

OtherUser::~OtherUser() {
  if (was_root_ && ::seteuid(kRoot) != 0) std::abort();
}

}  // namespace ptb::test
