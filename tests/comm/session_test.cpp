// What ranks tell each other, and what happens to a rank that waits in vain.
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/world.hpp"

namespace ptb {
namespace {

// Text that differs from rank to rank and from place to place.
std::string pattern(int rank, std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) {
    text[i] = static_cast<char>((i * 31 + static_cast<std::size_t>(rank) * 7 + i / 251) % 256);
  }
  return text;
}

// What `work` throws on this rank as an agreed error.
template <class Work>
std::optional<AgreedError> agreed_error(Work work) {
  try {
    work();
    return std::nullopt;
  } catch (const AgreedError& error) {
    return error;
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(session_suite)

BOOST_AUTO_TEST_CASE(ranks_know_their_place) {
  Session& session = test::session();
  const auto places =
      session.exchange_identity(session.host() + " " + std::to_string(session.host_rank()) + " " +
                                std::to_string(session.host_size()));
  BOOST_TEST(places.size() == static_cast<std::size_t>(session.size()));
  BOOST_TEST((std::set<std::string>(places.begin(), places.end()).size() == places.size()));
  BOOST_TEST(session.host_rank() < session.host_size());
  BOOST_TEST(session.is_root() == (session.rank() == 0));
  BOOST_TEST(!Session::library_version().empty());
  BOOST_TEST(!contains(Session::library_version(), "\n"));
}

BOOST_AUTO_TEST_CASE(texts_are_broadcast) {
  Session& session = test::session();
  // The last is longer than one message carries (64 MiB).
  for (const std::size_t bytes : {0u, 1u, 1000u, 3'000'001u, (64u << 20) + 3}) {
    const std::string expected = pattern(0, bytes);
    std::string text = session.is_root() ? expected : "what was here before";
    session.broadcast(text);
    BOOST_TEST((text == expected), bytes << " bytes");
  }
}

BOOST_AUTO_TEST_CASE(spans_are_broadcast) {
  std::vector<double> values(1001, test::session().rank());
  if (test::session().is_root()) std::fill(values.begin(), values.end(), 0.5);
  test::session().broadcast(std::as_writable_bytes(std::span(values)));
  BOOST_TEST(std::count(values.begin(), values.end(), 0.5) == 1001);
}

BOOST_AUTO_TEST_CASE(texts_are_gathered) {
  Session& session = test::session();
  const auto mine = [](int rank) {
    return pattern(rank, rank == 1 ? 0 : 100'000u + static_cast<unsigned>(rank));
  };
  for (int repeat = 0; repeat < 3; ++repeat) {
    const std::vector<std::string> texts = session.gather(mine(session.rank()));
    BOOST_TEST(texts.size() == static_cast<std::size_t>(session.is_root() ? session.size() : 0));
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
      BOOST_TEST((texts[rank] == mine(static_cast<int>(rank))), "rank " << rank);
    }
  }
}

BOOST_AUTO_TEST_CASE(an_identity_may_fill_its_place_but_no_more) {
  const std::string full(Session::kIdentityBytes, 'x');
  BOOST_TEST(test::session().exchange_identity(full).back() == full);
  BOOST_CHECK_THROW(test::session().exchange_identity(full + "x"), Error);
}

BOOST_AUTO_TEST_CASE(ranks_of_a_host_exchange_bytes) {
  Session& session = test::session();
  const std::array<int, 300> mine = [&] {
    std::array<int, 300> values{};
    values.fill(session.host_rank() + 1);
    return values;
  }();
  const std::vector<std::array<int, 300>> all = session.exchange_on_host(mine);
  BOOST_REQUIRE(std::ssize(all) == session.host_size());
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    BOOST_TEST(all[rank].front() == static_cast<int>(rank) + 1);
    BOOST_TEST(all[rank].back() == static_cast<int>(rank) + 1);
  }
}

// A struct of its own, with a text and a list that differ from rank to rank.
struct Note {
  int rank = 0;
  std::string text{};
  std::vector<double> values{};

  static auto members(auto& self) {
    auto& [rank, text, values] = self;
    return std::tie(rank, text, values);
  }
  bool operator==(const Note&) const = default;
};

Note note_of(int rank) {
  return {.rank = rank,
          .text = pattern(rank, static_cast<std::size_t>(rank) * 1000),
          .values = std::vector<double>(static_cast<std::size_t>(rank) + 1, 0.5 * rank)};
}

BOOST_AUTO_TEST_CASE(structs_cross_ranks) {
  Session& session = test::session();
  Note note = note_of(session.rank());
  const std::vector<Note> all = session.gather(note);
  BOOST_TEST(std::ssize(all) == (session.is_root() ? session.size() : 0));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    BOOST_TEST((all[rank] == note_of(static_cast<int>(rank))));
  }
  session.broadcast(note);
  BOOST_TEST((note == note_of(0)));

  std::vector<double> values(session.is_root() ? 1001 : 3, 0.25 * session.rank());
  session.broadcast(values);
  BOOST_TEST((values == std::vector<double>(1001, 0.0)));
  int number = 7 + session.rank();
  session.broadcast(number);
  BOOST_TEST(number == 7);
}

BOOST_AUTO_TEST_CASE(work_on_root_runs_there_alone) {
  bool has_run = false;
  test::session().on_root([&] { has_run = true; });
  BOOST_TEST(has_run == test::session().is_root());
}

BOOST_AUTO_TEST_CASE(an_error_on_root_is_everyones) {
  const auto error = agreed_error([] {
    test::session().on_root([] {
      throw Error(ExitCode::bad_data, {Complaint{.what = "first", .where = "a\nb", .why = "why"},
                                       Complaint{.what = "second"}});
    });
  });
  BOOST_REQUIRE(error.has_value());
  BOOST_TEST((error->code() == ExitCode::bad_data));
  const std::vector<std::string> expected{"first: a\\x0ab: why", "second"};
  BOOST_TEST(error->lines() == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(other_exceptions_on_root_become_errors) {
  const auto code_of = [](auto work) {
    const auto error = agreed_error([&] { test::session().on_root(work); });
    return error ? error->code() : ExitCode::done;
  };
  BOOST_TEST((code_of([] { throw std::bad_alloc(); }) == ExitCode::missing));
  BOOST_TEST((code_of([] { throw std::out_of_range("x"); }) == ExitCode::internal));
  BOOST_TEST((code_of([] { throw 1; }) == ExitCode::internal));
  BOOST_TEST((code_of([] {}) == ExitCode::done));
}

BOOST_AUTO_TEST_CASE(an_error_on_some_ranks_is_everyones_with_rank_and_host) {
  Session& session = test::session();
  const auto error_where = [&](auto fails) {
    return agreed_error([&] {
      session.on_every_rank([&] {
        if (!fails(session.rank())) return;
        throw Error(ExitCode::missing,
                    Complaint{.what = "no device", .why = std::to_string(session.rank())});
      });
    });
  };
  BOOST_TEST(!error_where([](int) { return false; }).has_value());
  const auto everywhere = error_where([](int) { return true; });
  BOOST_REQUIRE(everywhere.has_value());
  BOOST_TEST((everywhere->code() == ExitCode::missing));
  BOOST_TEST(everywhere->lines().front() == "no device: 0");
  if (session.size() == 1) return;
  const auto on_some = error_where([](int rank) { return rank > 0; });
  BOOST_REQUIRE(on_some.has_value());
  BOOST_TEST(on_some->lines().size() == 1u);
  // All ranks of a test are on one host.
  BOOST_TEST(on_some->lines().front() == "rank 1 (" + session.host() + "): no device: 1");
}

BOOST_AUTO_TEST_CASE(a_rank_that_differs_is_named_on_every_rank) {
  Session& session = test::session();
  require_same(session, "version", "1.0");
  if (session.size() == 1) return;
  const int odd = session.size() - 1;
  const auto error = agreed_error(
      [&] { require_same(session, "version", session.rank() == odd ? "2.0" : "1.0"); });
  BOOST_REQUIRE(error.has_value());
  BOOST_TEST((error->code() == ExitCode::usage));
  const std::string line = error->lines().front();
  BOOST_TEST(contains(line, "version"), line);
  BOOST_TEST(contains(line, "rank " + std::to_string(odd) + " has \"2.0\""), line);
  BOOST_TEST(contains(line, "have \"1.0\"") == (session.size() > 2), line);
  require_same(session, "the line", std::to_string(std::hash<std::string>{}(line)));
}

BOOST_AUTO_TEST_CASE(the_majority_is_right_even_against_root) {
  Session& session = test::session();
  if (session.size() < 3) return;
  const auto error =
      agreed_error([&] { require_same(session, "version", session.is_root() ? "2.0" : "1.0"); });
  BOOST_REQUIRE(error.has_value());
  BOOST_TEST(contains(error->lines().front(), ": rank 0 has \"2.0\"; ranks 1, 2"));
}

// A rank stays away for longer than the others' deadline, who name it and no other. What they began
// is still valid, short messages and long ones: when the late rank comes, their sums complete.
BOOST_AUTO_TEST_CASE(a_missed_deadline_ends_the_wait) {
  Session& session = test::session();
  if (session.size() == 1) return;
  std::vector<float> few(1, 1.0f), many(500'000, 1.0f);
  const auto begin = [&](std::vector<float>& values) {
    return session.begin_all_reduce(
        {std::shared_ptr<std::byte>(reinterpret_cast<std::byte*>(values.data()), [](auto*) {}),
         ElementType::f32,
         {std::ssize(values)}});
  };
  const bool is_late = session.rank() == session.size() - 1;
  if (is_late) std::this_thread::sleep_for(std::chrono::seconds(5));
  const auto short_sum = begin(few);
  const auto long_sum = begin(many);
  const auto start = std::chrono::steady_clock::now();
  if (!is_late) {
    const auto before = session.timeout();
    session.set_timeout(std::chrono::milliseconds(500));
    BOOST_CHECK_EXCEPTION(
        session.wait(long_sum, "the sum that never comes"), Error, [&](const Error& error) {
          const std::string line = error.lines().front();
          BOOST_TEST_MESSAGE(line);
          return error.code() == ExitCode::internal &&
                 contains(line, "waited 0.5 s for the sum that never comes") &&
                 contains(line, "rank " + std::to_string(session.rank()) + " of ") &&
                 contains(line, "no sign of rank " + std::to_string(session.size() - 1) + " on " +
                                    session.host() + ": lost");
        });
    // The deadline and a second of roll call, three times on a busy machine.
    BOOST_TEST((std::chrono::steady_clock::now() - start < std::chrono::milliseconds(4500)));
    session.set_timeout(before);
  }
  session.wait(short_sum, "the short sum that was late");
  session.wait(long_sum, "the long sum that was late");
  BOOST_TEST(few.back() == static_cast<float>(session.size()));
  BOOST_TEST(many.back() == static_cast<float>(session.size()));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // what was heard is of no use now
}

BOOST_AUTO_TEST_CASE(ranks_that_all_wait_say_so) {
  Session& session = test::session();
  const auto before = session.timeout();
  session.set_timeout(std::chrono::milliseconds(500));
  BOOST_CHECK_EXCEPTION(session.wait_until([] { return false; }, "what never comes"), Error,
                        [&](const Error& error) {
                          const std::string line = error.lines().front();
                          BOOST_TEST_MESSAGE(line);
                          return contains(line, "waited 0.5 s for what never comes") &&
                                 contains(line, session.size() == 1 ? "the device stands still"
                                                                    : "all other ranks wait, too");
                        });
  session.set_timeout(before);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace ptb
