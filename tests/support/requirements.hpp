// What a test may need from the machine, and whether it may be skipped without it.
//
// PTB_DATA names the folder of the Penn Treebank. PTB_DIST_REQUIRE is a comma-separated list of
// what must be there ("ptb", or a right of rights.py): a test that needs it then fails instead of
// being skipped.
#pragma once

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <optional>
#include <string_view>

namespace ptb::test {

// Whether PTB_DIST_REQUIRE names it.
bool required(std::string_view name);

// $PTB_DATA, or nothing. Throws where it is unset but required: the test that asks fails.
std::optional<std::filesystem::path> ptb_folder();

// Precondition of a test that calls ptb_folder().value(); a skip and its reason are printed.
//   BOOST_AUTO_TEST_CASE(name, *boost::unit_test::precondition(ptb::test::needs_ptb))
boost::test_tools::assertion_result needs_ptb(boost::unit_test::test_unit_id test);

// Precondition of a test that makes an OtherUser; a skip and its reason are printed.
boost::test_tools::assertion_result needs_other_user(boost::unit_test::test_unit_id test);

// While it lives, files without permission are closed: root, who reads everything, is another user
// meanwhile. Other users stay who they are. Throws where root has not the right.
class OtherUser {
 public:
  OtherUser();
  ~OtherUser();
  OtherUser(const OtherUser&) = delete;
  OtherUser& operator=(const OtherUser&) = delete;

 private:
  bool was_root_;
};

}  // namespace ptb::test
