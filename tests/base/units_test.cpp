#include "ptb_dist/base/units.hpp"

#include <boost/test/unit_test.hpp>
#include <limits>

namespace ptb {
namespace {

BOOST_AUTO_TEST_SUITE(units)

BOOST_AUTO_TEST_CASE(a_size_has_the_unit_that_fits) {
  struct Row {
    std::int64_t bytes;
    const char* text;
  };
  const Row rows[] = {
      {0, "0 bytes"},
      {1, "1 byte"},
      {999, "999 bytes"},
      {1000, "1.0 kB"},
      {30'100, "30.1 kB"},
      {999'949, "999.9 kB"},
      {999'950, "1.0 MB"},  // not 1000.0 kB
      {54'200'000, "54.2 MB"},
      {999'950'000, "1.00 GB"},
      {141'230'000'000, "141.23 GB"},
      {999'950'000'000, "1.00 TB"},
      {std::numeric_limits<std::int64_t>::max(), "9223372.04 TB"},
  };
  for (const Row& row : rows) BOOST_TEST(bytes_text(row.bytes) == row.text);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
