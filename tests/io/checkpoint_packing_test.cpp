#include <boost/test/unit_test.hpp>

#include "io/checkpoint/checkpoint_check.hpp"
#include "io/checkpoint/checkpoint_packing.hpp"
#include "io/sample_checkpoint.hpp"

using namespace ptb;
using namespace ptb::test;

namespace {

const Subject kSubject{.code = ExitCode::bad_data, .what = "checkpoint", .where = "a.h5"};

CheckpointContents sample() {
  CheckpointContents contents{.info = SampleRun::make_info(ElementType::f64)};
  contents.places.assign(tensors_of(contents.info).size(), 512);
  return contents;
}

Failure failure_of_checking(void (*change)(CheckpointContents&)) {
  CheckpointContents contents = sample();
  change(contents);
  return failure_of([&] { check_contents(contents, 10'000, kSubject); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_packing)

BOOST_AUTO_TEST_CASE(contents_come_back_as_they_were) {
  const CheckpointContents from = sample(), to = unpacked(packed(from), kSubject);
  BOOST_TEST((to.info.config == from.info.config));
  BOOST_TEST((to.info.corpus == from.info.corpus));
  BOOST_TEST((to.info.progress == from.info.progress));
  BOOST_TEST((to.info.exact_class == from.info.exact_class));
  BOOST_TEST((to.info.real == ElementType::f64));
  BOOST_TEST((to.places == from.places));
  BOOST_TEST(failure_of([&] { check_contents(to, 10'000, kSubject); }).line == "");
}

BOOST_AUTO_TEST_CASE(bytes_that_are_no_contents_are_refused) {
  const std::string whole = packed(sample());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string cut = whole.substr(0, length);
    BOOST_TEST(failure_of([&] { unpacked(cut, kSubject); }).code == 65, length);
  }
  BOOST_TEST(failure_of([&] { unpacked(whole + 'x', kSubject); }).code == 65);
  // Wrong lengths: for any wrong byte the result is an error or other contents.
  for (std::size_t place = 0; place < whole.size(); ++place) {
    std::string damaged = whole;
    damaged[place] = '\xff';
    const int code =
        failure_of([&] { check_contents(unpacked(damaged, kSubject), 10'000, kSubject); }).code;
    BOOST_TEST((code == 0 || code == 65), place);
  }
}

// Contents that only a child with a defect could send, and no file that the child has checked.
BOOST_AUTO_TEST_CASE(contents_are_checked_whoever_made_them) {
  using Contents = CheckpointContents;
  const std::pair<void (*)(Contents&), const char*> cases[] = {
      {[](Contents& c) { c.places.pop_back(); }, "a.h5: lacks a tensor"},
      {[](Contents& c) { c.places[2] = 511; },
       "/parameters/lstm/0/bias: is not wholly in the file"},
      {[](Contents& c) { c.places[2] = 10'000 - 12 * 8 + 1; },
       "/parameters/lstm/0/bias: is not wholly in the file"},
      {[](Contents& c) { c.places.back() = -1; }, "/state/lstm/2/c: is not wholly in the file"},
      {[](Contents& c) { c.info.progress.history.pop_back(); }, "/history: has not one entry"},
      {[](Contents& c) { c.info.config.hidden_size = 30; }, "/config: its model takes "},
      {[](Contents& c) { c.info.config.num_layers = 256; }, "/config: num_layers is 256, and not"},
      {[](Contents& c) { c.info.corpus.words[3] = ""; }, "/vocabulary: word 3 is empty"}};
  for (const auto& [change, reason] : cases) {
    const Failure failure = failure_of_checking(change);
    BOOST_TEST(failure.code == 65);
    BOOST_TEST(failure.names(reason), failure.line);
  }
  BOOST_TEST(failure_of_checking([](Contents& c) { c.places[2] = 10'000 - 12 * 8; }).line == "");
}

BOOST_AUTO_TEST_SUITE_END()
