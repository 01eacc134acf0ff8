// The sum over ranks by closed form, its bits, and its order. Run with 1, 2, 3, 4 and 5 ranks,
// the tree with 8.
#define BOOST_TEST_MODULE comm
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ptb_dist/comm/communicator.hpp"
#include "support/reference_backend.hpp"
#include "support/world.hpp"

namespace ptb {
namespace {

std::unique_ptr<Session> the_session;

// A hang is a failure within 50 s, even where no deadline of ours ends it.
void begin_watchdog() {
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(50));
    std::fputs("watchdog: the tests of comm hang\n", stderr);
    ::_exit(1);
  }).detach();
}

struct World {
  World() {
    begin_watchdog();
    auto& suite = boost::unit_test::framework::master_test_suite();
    the_session = std::make_unique<Session>(&suite.argc, &suite.argv);
    the_session->set_timeout(std::chrono::seconds(20));
  }
  ~World() { the_session.reset(); }
};
BOOST_TEST_GLOBAL_FIXTURE(World);

// Either side of where the ring takes over (1 MiB), and more than one message carries (64 MiB).
const std::int64_t kSizes[] = {0, 1, 2, 7, 1000, 131'071, 131'072, 262'143, 262'145, 1'000'003};
constexpr std::int64_t kSeveralMessages = (std::int64_t{68} << 20) / 8 + 1;

// Element i of rank r is (r + 1)·(i mod 1000): sums of up to 5 ranks are exact in float.
template <class Real>
std::vector<Real> addend(std::int64_t elements) {
  std::vector<Real> values(static_cast<std::size_t>(elements));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<Real>((test::session().rank() + 1) * static_cast<int>(i % 1000));
  }
  return values;
}

template <class Real>
std::size_t wrong_sums(const std::vector<Real>& values) {
  const int ranks = test::session().size();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    wrong += values[i] != static_cast<Real>(ranks * (ranks + 1) / 2 * static_cast<int>(i % 1000));
  }
  return wrong;
}

// A view of them.
template <class Real>
Tensor tensor_of(std::vector<Real>& values) {
  return {std::shared_ptr<std::byte>(reinterpret_cast<std::byte*>(values.data()), [](auto*) {}),
          element_type<Real>,
          {std::ssize(values)}};
}

template <class Real>
void all_reduce(std::vector<Real>& values, SumOrder order = SumOrder::fastest) {
  Session& session = test::session();
  session.wait(session.begin_all_reduce(tensor_of(values), order), "a sum of the tests");
}

// Values whose sum depends on the order of the additions.
template <class Real>
std::vector<Real> rough_values(std::size_t elements, int rank = test::session().rank()) {
  std::mt19937 random(static_cast<unsigned>(rank) + 1);
  std::vector<Real> values(elements);
  for (Real& value : values) {
    const int exponent = static_cast<int>(random() % 40) - 20;
    value = static_cast<Real>(std::ldexp(static_cast<double>(random()), exponent));
  }
  return values;
}

template <class Real>
std::string bits_of(const std::vector<Real>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Real)};
}

std::string digest(const std::string& bytes) {
  return std::to_string(std::hash<std::string>{}(bytes));
}

}  // namespace

Session& test::session() { return *the_session; }

BOOST_AUTO_TEST_SUITE(all_reduce_suite)

using Reals = std::tuple<float, double>;

BOOST_AUTO_TEST_CASE_TEMPLATE(sums_follow_the_closed_form, Real, Reals) {
  for (const std::int64_t elements : kSizes) {
    std::vector<Real> values = addend<Real>(elements);
    all_reduce(values);
    BOOST_TEST(wrong_sums(values) == 0u, "of " << elements << " elements");
  }
}

BOOST_AUTO_TEST_CASE(a_sum_may_be_longer_than_a_message) {
  std::vector<double> values = addend<double>(kSeveralMessages);
  all_reduce(values);
  BOOST_TEST(wrong_sums(values) == 0u);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(bits_are_the_same_on_every_rank_and_every_time, Real, Reals) {
  for (const std::size_t elements : {std::size_t{1001}, std::size_t{300'007}}) {
    std::string first;
    for (int repeat = 0; repeat < 4; ++repeat) {
      // Another rank comes last each time.
      const int delay = (test::session().rank() + repeat) % test::session().size();
      std::this_thread::sleep_for(std::chrono::milliseconds(3 * delay));
      std::vector<Real> values = rough_values<Real>(elements);
      all_reduce(values);
      const std::string bits = bits_of(values);
      require_same(test::session(), "bits", digest(bits));
      if (repeat == 0) first = bits;
      BOOST_TEST((bits == first), "repeat " << repeat << " of " << elements << " elements");
    }
  }
}

BOOST_AUTO_TEST_CASE(sums_in_flight_may_be_awaited_in_any_order) {
  Session& session = test::session();
  const std::int64_t sizes[] = {1, 400'000, 0, 999, 300'001, 700'003};
  std::vector<std::vector<float>> values;
  std::vector<Session::Request> requests;
  for (const std::int64_t elements : sizes) {
    values.push_back(addend<float>(elements));
    requests.push_back(session.begin_all_reduce(tensor_of(values.back())));
  }
  // Each rank begins its waits with another sum, so that none waits for the one that its peers
  // drive.
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::size_t mine = (i + static_cast<std::size_t>(session.rank())) % requests.size();
    session.wait(requests[mine], "a sum out of order");
    BOOST_TEST(wrong_sums(values[mine]) == 0u, "sum " << mine);
    values[mine].clear();
  }
}

BOOST_AUTO_TEST_CASE(sums_go_on_while_another_collective_is_awaited) {
  Session& session = test::session();
  std::vector<float> values = addend<float>(1'000'003);
  const auto request = session.begin_all_reduce(tensor_of(values));
  // Root waits for the others' texts, which come after their sums, which need root.
  if (!session.is_root()) session.wait(request, "the sum first");
  require_same(session, "text", "now");
  session.wait(request, "the sum last");
  BOOST_TEST(wrong_sums(values) == 0u);
}

// The sum of ranks first .. first + count - 1, one element at a time.
template <class Real>
Real tree_sum(const std::vector<std::vector<Real>>& of_ranks, std::size_t element, int first,
              int count) {
  if (count == 1) return of_ranks[static_cast<std::size_t>(first)][element];
  return tree_sum(of_ranks, element, first, count / 2) +
         tree_sum(of_ranks, element, first + count / 2, count / 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_sum_along_the_tree, Real, Reals) {
  const int ranks = test::session().size();
  for (const std::int64_t elements : kSizes) {
    std::vector<Real> values = addend<Real>(elements);
    all_reduce(values, SumOrder::tree);
    BOOST_TEST(wrong_sums(values) == 0u, "of " << elements << " elements");
  }
  if (ranks != 1 && ranks != 2 && ranks != 4 && ranks != 8) return;  // it is not a tree then
  // Either side of where the sum begins to be cut in halves (32 KiB).
  for (const std::size_t elements : {std::size_t{1}, std::size_t{3}, std::size_t{1001},
                                     std::size_t{4095}, std::size_t{8193}, std::size_t{300'007}}) {
    std::vector<std::vector<Real>> of_ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      of_ranks.push_back(rough_values<Real>(elements, rank));
    }
    std::vector<Real> values = rough_values<Real>(elements);
    all_reduce(values, SumOrder::tree);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < elements; ++i)
      wrong += values[i] != tree_sum(of_ranks, i, 0, ranks);
    BOOST_TEST(wrong == 0u, "of " << elements << " elements");
    require_same(test::session(), "bits", digest(bits_of(values)));
  }
}

BOOST_AUTO_TEST_CASE(another_order_of_additions_is_another_sum) {
  // Else the test above could not fail.
  std::vector<std::vector<float>> of_ranks;
  for (int rank = 0; rank < 4; ++rank) of_ranks.push_back(rough_values<float>(1001, rank));
  std::size_t different = 0;
  for (std::size_t i = 0; i < 1001; ++i) {
    const float in_turn = ((of_ranks[0][i] + of_ranks[1][i]) + of_ranks[2][i]) + of_ranks[3][i];
    different += in_turn != tree_sum(of_ranks, i, 0, 4);
  }
  BOOST_TEST(different > 20u);
}

BOOST_AUTO_TEST_CASE(only_reals_are_summed) {
  std::vector<std::int32_t> values{1};
  if (test::session().size() == 1) return;  // one rank has nothing to add
  BOOST_CHECK_THROW(test::session().begin_all_reduce(tensor_of(values)), Error);
}

BOOST_AUTO_TEST_CASE(the_communicator_sums_parts_of_a_slab) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  const auto communicator = make_communicator("auto", test::session(), *backend);
  BOOST_TEST(communicator->name() == (test::session().size() == 1 ? "single" : "mpi"));
  const std::vector<double> values = addend<double>(6000);
  const Tensor slab = backend->allocate(ElementType::f64, {6000});
  backend->upload(slab, std::as_bytes(std::span(values)));

  const auto last = communicator->all_reduce(slab.slice(1000, 5000), backend->record(), "last");
  const auto none = communicator->all_reduce(slab.slice(1000, 0), nullptr, "none");
  const auto first = communicator->all_reduce(slab.slice(0, 1000), nullptr, "first");
  for (const Reduction& sum : {first, none, last, Reduction()}) communicator->wait(sum);

  std::vector<double> sums(6000);
  backend->download(slab, std::as_writable_bytes(std::span(sums)));
  BOOST_TEST(wrong_sums(sums) == 0u);
}

BOOST_AUTO_TEST_CASE(a_communicator_that_does_not_fit_is_refused) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  const auto refusal = [&](const std::string& name) {
    try {
      make_communicator(name, test::session(), *backend);
      return ExitCode::done;
    } catch (const Error& error) {
      return error.code();
    }
  };
  BOOST_TEST((refusal("nccl") == ExitCode::missing));
  BOOST_TEST((refusal("mpi") == ExitCode::done));
  BOOST_TEST((refusal("carrier pigeon") == ExitCode::usage));
  const bool is_alone = test::session().size() == 1;
  BOOST_TEST((refusal("single") == (is_alone ? ExitCode::done : ExitCode::usage)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace ptb
