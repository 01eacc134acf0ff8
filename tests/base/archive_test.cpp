#include "ptb_dist/base/archive.hpp"

#include <boost/test/unit_test.hpp>
#include <limits>

namespace ptb {
namespace {

enum class Colour { red, green };

struct Leaf {
  std::string name{};
  double value = 0;

  static auto members(auto& self) {
    auto& [name, value] = self;
    return std::tie(name, value);
  }
  bool operator==(const Leaf&) const = default;
};

struct Tree {
  bool is_old = false;
  Colour colour = Colour::red;
  std::int64_t age = 0;
  std::string text{};
  std::vector<float> reals{};
  std::vector<Leaf> leaves{};
  std::array<std::string, 2> both{};
  std::vector<std::pair<std::string, std::vector<int>>> table{};
  std::optional<Leaf> fruit{}, none{};

  static auto members(auto& self) {
    auto& [is_old, colour, age, text, reals, leaves, both, table, fruit, none] = self;
    return std::tie(is_old, colour, age, text, reals, leaves, both, table, fruit, none);
  }
  bool operator==(const Tree&) const = default;
};

Tree sample() {
  return {.is_old = true,
          .colour = Colour::green,
          .age = std::numeric_limits<std::int64_t>::min(),
          .text = std::string("a\0b\n", 4),
          .reals = {0.5f, -1},
          .leaves = {{"x", 1}, {"", std::numeric_limits<double>::denorm_min()}},
          .both = {"left", ""},
          .table = {{"one", {1}}, {"none", {}}},
          .fruit = Leaf{"apple", 2},
          .none = std::nullopt};
}

BOOST_AUTO_TEST_SUITE(archive)

BOOST_AUTO_TEST_CASE(a_value_comes_back_as_it_was) {
  BOOST_TEST((from_bytes<Tree>(to_bytes(sample())) == sample()));
  BOOST_TEST((from_bytes<Tree>(to_bytes(Tree{})) == Tree{}));
  BOOST_TEST((from_bytes<std::string>(to_bytes(std::string())) == ""));
  const std::vector<std::int32_t> none;
  BOOST_TEST((from_bytes<std::vector<std::int32_t>>(to_bytes(none)) == none));
}

BOOST_AUTO_TEST_CASE(bytes_of_no_value_give_none) {
  const std::string whole = to_bytes(sample());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    BOOST_TEST(!from_bytes<Tree>(whole.substr(0, length)).has_value(), length);
  }
  BOOST_TEST(!from_bytes<Tree>(whole + '\0').has_value());
}

// Lengths that lie, and truth values that are none: nothing is read beyond the end, and no memory
// is taken for what cannot be there (the limit of the sanitizer, or of the machine, would tell).
BOOST_AUTO_TEST_CASE(any_byte_may_be_wrong) {
  const std::string whole = to_bytes(sample());
  std::size_t refused = 0;
  for (std::size_t place = 0; place < whole.size(); ++place) {
    for (const char byte : {'\x00', '\x02', '\x7f', '\xff'}) {
      std::string damaged = whole;
      damaged[place] = byte;
      refused += from_bytes<Tree>(damaged).has_value() ? 0 : 1;
    }
  }
  BOOST_TEST(refused > 100u);
  const std::string endless(8, '\xff');
  BOOST_TEST(!from_bytes<std::string>(endless).has_value());
  BOOST_TEST(!from_bytes<std::vector<double>>(endless + "12345678").has_value());
  BOOST_TEST(!from_bytes<std::vector<std::string>>(endless + "12345678").has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
