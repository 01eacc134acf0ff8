#define BOOST_TEST_MODULE base
#include "ptb_dist/base/error.hpp"

#include <boost/test/unit_test.hpp>

#include "base/complaints.hpp"

namespace ptb {
namespace {

BOOST_AUTO_TEST_SUITE(errors)

BOOST_AUTO_TEST_CASE(a_complaint_is_what_where_why_remedy) {
  const Complaint full{.what = "seed", .where = "a.toml:7", .why = "-1 is out", .remedy = "give 1"};
  BOOST_TEST(full.line() == "seed: a.toml:7: -1 is out; give 1");
}

BOOST_AUTO_TEST_CASE(empty_members_leave_no_separator) {
  BOOST_TEST((Complaint{.what = "seed", .remedy = "give 1"}.line()) == "seed; give 1");
  BOOST_TEST((Complaint{.where = "a.toml:7", .why = "bad"}.line()) == "a.toml:7: bad");
}

BOOST_AUTO_TEST_CASE(a_complaint_is_one_line_whatever_stands_in_it) {
  const Complaint hostile{.what = "a\nb", .where = "c\rd", .why = "\x1b[31m", .remedy = "e\tf"};
  BOOST_TEST(hostile.line() == "a\\x0ab: c\\x0dd: \\x1b[31m; e\\x09f");
}

BOOST_AUTO_TEST_CASE(an_error_has_a_line_for_each_complaint) {
  const Error error(ExitCode::bad_data, {Complaint{.what = "one"}, Complaint{.what = "two"}});
  BOOST_TEST(error.lines() == (std::vector<std::string>{"one", "two"}),
             boost::test_tools::per_element());
  BOOST_TEST(std::string(error.what()) == "one\ntwo");
  BOOST_TEST(static_cast<int>(error.code()) == 65);
}

BOOST_AUTO_TEST_CASE(control_characters_and_foreign_bytes_are_escaped) {
  using namespace std::string_literals;
  BOOST_TEST(escaped("wo\0rd"s) == "wo\\x00rd");
  BOOST_TEST(escaped("\x7f") == "\\x7f");
  BOOST_TEST(escaped("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80") ==
             "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80");
  BOOST_TEST(escaped("\xc2\x9b"
                     "31m") == "\\xc2\\x9b31m");  // CSI of eight-bit terminals
  BOOST_TEST(escaped("\xff"
                     "a") == "\\xffa");
  BOOST_TEST(escaped("\xe2\x82") == "\\xe2\\x82");  // cut in the middle
}

BOOST_AUTO_TEST_CASE(one_line_keeps_the_whole_text_and_is_the_same_twice) {
  const std::string text = std::string(10'000, 'x') + "\n\x1b[m\xc2\x85\xff\xc3\xa4";
  const std::string line = one_line(text);
  BOOST_TEST(line == std::string(10'000, 'x') + "\\x0a\\x1b[m\\xc2\\x85\\xff\xc3\xa4");
  BOOST_TEST(one_line(line) == line);
}

BOOST_AUTO_TEST_CASE(a_long_text_is_cut_between_characters) {
  BOOST_TEST(escaped("abcdef", 6) == "abcdef");
  BOOST_TEST(escaped("abcdefg", 6) == "abcdef...");
  BOOST_TEST(escaped("abc\xe2\x82\xac", 5) == "abc...");
  BOOST_TEST(escaped("abc\n", 5) == "abc...");
}

BOOST_AUTO_TEST_CASE(utf8_is_what_unicode_says) {
  struct Row {
    const char* text;
    std::size_t length;
  };
  const Row rows[] = {
      {"", 0},
      {"a", 1},
      {"\xc2\x80", 2},
      {"\xdf\xbf", 2},
      {"\xe0\xa0\x80", 3},
      {"\xed\x9f\xbf", 3},
      {"\xef\xbf\xbf", 3},
      {"\xf0\x90\x80\x80", 4},
      {"\xf4\x8f\xbf\xbf", 4},
      {"\x80", 0},              // continuation without a start
      {"\xc0\xaf", 0},          // overlong, 2 bytes
      {"\xc1\xbf", 0},          //
      {"\xe0\x9f\xbf", 0},      // overlong, 3 bytes
      {"\xf0\x8f\xbf\xbf", 0},  // overlong, 4 bytes
      {"\xed\xa0\x80", 0},      // surrogate
      {"\xf4\x90\x80\x80", 0},  // above U+10FFFF
      {"\xf5\x80\x80\x80", 0},  //
      {"\xc2", 0},              // cut short
      {"\xe2\x82", 0},          //
      {"\xf0\x9f\x98", 0},      //
      {"\xe2\x82\x41", 0},      //
  };
  for (const Row& row : rows) {
    BOOST_TEST_CONTEXT(escaped(row.text)) { BOOST_TEST(utf8_length(row.text) == row.length); }
  }
}

BOOST_AUTO_TEST_CASE(the_nearest_name_is_suggested) {
  const std::vector<std::string> names = {"seed", "data", "num_steps", "num_layers"};
  BOOST_TEST(did_you_mean("sed", names) == "did you mean \"seed\"?");
  BOOST_TEST(did_you_mean("num-steps", names) == "did you mean \"num_steps\"?");
  BOOST_TEST(did_you_mean("num_layer", names) == "did you mean \"num_layers\"?");
  BOOST_TEST(did_you_mean("zzzzzzzz", names) == "");
  BOOST_TEST(did_you_mean("", names) == "");
  BOOST_TEST(did_you_mean(std::string(100'000, 's'), names) == "");
}

BOOST_AUTO_TEST_CASE(a_broken_invariant_is_an_internal_error_with_its_place) {
  require(true, "all is well");
  const auto lines = complaints_of([] { require(false, "rows are sorted"); }, ExitCode::internal);
  BOOST_TEST_REQUIRE(lines.size() == 1);
  BOOST_TEST(contains(lines[0], "error_test.cpp:"));
  BOOST_TEST(contains(lines[0], "\"rows are sorted\" does not hold"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
