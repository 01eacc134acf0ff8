// How ranks come to one mind about an error: root's is told to all, odd ranks are named to all.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {
namespace {

// An Error on its way to other ranks.
struct ToldError {
  ExitCode code = ExitCode::internal;
  std::string host{};  // where it was thrown
  std::vector<std::string> lines{};

  static auto members(auto& self) {
    auto& [code, host, lines] = self;
    return std::tie(code, host, lines);
  }
};

// Runs `work`; what it threw.
std::optional<ToldError> error_of(const std::function<void()>& work, const std::string& host) {
  try {
    work();
    return std::nullopt;
  } catch (...) {
    const Error error = error_in_flight();
    return ToldError{.code = error.code(), .host = host, .lines = error.lines()};
  }
}

void throw_if_any(const std::optional<ToldError>& error) {
  if (!error) return;
  std::vector<Complaint> complaints;
  for (const std::string& line : error->lines) complaints.push_back({.what = line});
  throw AgreedError(error->code, std::move(complaints));
}

// Ranks that gave the same text.
struct Group {
  std::string text;
  std::vector<int> ranks;  // ascending
};

// The largest first; of equal ones that of the lowest rank.
std::vector<Group> groups_of(const std::vector<std::string>& texts) {
  std::vector<Group> groups;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    auto group = std::ranges::find(groups, texts[rank], &Group::text);
    if (group == groups.end())
      group = groups.insert(groups.end(), Group{.text = texts[rank], .ranks = {}});
    group->ranks.push_back(static_cast<int>(rank));
  }
  std::ranges::stable_sort(groups, std::ranges::greater{},
                           [](const Group& group) { return group.ranks.size(); });
  return groups;
}

// "rank 3 has "b"", "ranks 1, 4 have "b"".
std::string sentence(const Group& group) {
  constexpr std::size_t kNamed = 16;  // of a thousand odd ranks the first are enough
  const std::size_t named = std::min(group.ranks.size(), kNamed);
  const std::vector<int> first(group.ranks.begin(),
                               group.ranks.begin() + static_cast<std::ptrdiff_t>(named));
  const std::size_t rest = group.ranks.size() - named;
  const bool is_one = group.ranks.size() == 1;
  return fmt::format("rank{} {}{} {} \"{}\"", is_one ? "" : "s", fmt::join(first, ", "),
                     rest > 0 ? fmt::format(" and {} more", rest) : "", is_one ? "has" : "have",
                     escaped(group.text));
}

}  // namespace

void Session::on_root(const std::function<void()>& work) {
  std::optional<ToldError> error;
  if (is_root()) error = error_of(work, host_);
  broadcast(error);
  throw_if_any(error);
}

void Session::on_every_rank(const std::function<void()>& work) {
  std::optional<ToldError> error = error_of(work, host_);
  const std::vector<std::optional<ToldError>> errors = gather(error);
  if (is_root()) {
    const auto has_failed = [](const auto& of_rank) { return of_rank.has_value(); };
    const auto first = std::ranges::find_if(errors, has_failed);
    error = first == errors.end() ? std::nullopt : *first;
    if (error && !std::ranges::all_of(errors, has_failed)) {
      std::string& line = error->lines.front();
      line = fmt::format("rank {} ({}): {}", first - errors.begin(), error->host, line);
    }
  }
  broadcast(error);
  throw_if_any(error);
}

void require_same(Session& session, const std::string& what, const std::string& mine,
                  ExitCode code) {
  const std::vector<Group> groups = groups_of(session.exchange_identity(mine));
  if (groups.size() == 1) return;
  std::vector<std::string> odd;
  for (auto group = groups.begin() + 1; group != groups.end(); ++group)
    odd.push_back(sentence(*group));
  throw AgreedError(code,
                    {.what = fmt::format("the ranks differ in their {}", what),
                     .why = fmt::format("{}; {}", fmt::join(odd, "; "), sentence(groups.front())),
                     .remedy = "start the same program with the same settings on every host"});
}

}  // namespace ptb
