#include "support/differences.hpp"

#include <fmt/format.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <map>

namespace ptb::test {
namespace {

struct Nearest {
  double difference = 0, share = 0;  // of the tolerance
};

struct ToldAtTheEnd {
  std::map<std::string, Nearest> by_name{};

  ToldAtTheEnd() = default;
  ~ToldAtTheEnd() {
    for (const auto& [name, nearest] : by_name) {
      const std::string line =
          fmt::format("{}: largest difference {:.1e}, {:.2f} of its tolerance\n", name,
                      nearest.difference, nearest.share);
      std::fputs(line.c_str(), stdout);
    }
  }
  ToldAtTheEnd(const ToldAtTheEnd&) = delete;
  ToldAtTheEnd& operator=(const ToldAtTheEnd&) = delete;
};

}  // namespace

void note_difference(const std::string& backend, double difference, double tolerance) {
  static ToldAtTheEnd told;
  if (tolerance == 0) return;
  const std::string name =
      boost::unit_test::framework::current_test_case().p_name.get() + ", " + backend;
  Nearest& nearest = told.by_name[name];
  const double share = difference / tolerance;
  if (!(share <= nearest.share)) nearest = {.difference = difference, .share = share};
}

}  // namespace ptb::test
