// How ranks come to one mind about an error: root's is told to all, odd ranks are named to all.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {
namespace {

// Runs `work`; what it threw, as an Error.
std::optional<Error> error_of(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (...) {
    return error_in_flight();
  }
}

// As a message: the code, then the lines, each on a line of its own (an Error's lines have no line
// feed). Empty: no error.
std::string packed(const std::optional<Error>& error) {
  if (!error) return {};
  return fmt::format("{}\n{}", static_cast<int>(error->code()), fmt::join(error->lines(), "\n"));
}

AgreedError unpacked(std::string_view message) {
  const auto next_line = [&message] {
    const std::size_t end = std::min(message.find('\n'), message.size());
    const std::string_view line = message.substr(0, end);
    message.remove_prefix(std::min(end + 1, message.size()));
    return line;
  };
  const std::string_view number = next_line();
  int code = static_cast<int>(ExitCode::internal);
  std::from_chars(number.data(), number.data() + number.size(), code);
  std::vector<Complaint> complaints;
  do {
    complaints.push_back({.what = std::string(next_line())});
  } while (!message.empty());
  return {static_cast<ExitCode>(code), std::move(complaints)};
}

// Ranks that gave the same text.
struct Camp {
  std::string text;
  std::vector<int> ranks;  // ascending
};

// The largest first; of equal ones that of the lowest rank.
std::vector<Camp> camps_of(const std::vector<std::string>& texts) {
  std::vector<Camp> camps;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    auto camp = std::ranges::find(camps, texts[rank], &Camp::text);
    if (camp == camps.end())
      camp = camps.insert(camps.end(), Camp{.text = texts[rank], .ranks = {}});
    camp->ranks.push_back(static_cast<int>(rank));
  }
  std::ranges::stable_sort(camps, std::ranges::greater{},
                           [](const Camp& camp) { return camp.ranks.size(); });
  return camps;
}

// "rank 3 has "b"", "ranks 1, 4 have "b"".
std::string sentence(const Camp& camp) {
  constexpr std::size_t kNamed = 16;  // of a thousand odd ranks the first are enough
  const std::size_t named = std::min(camp.ranks.size(), kNamed);
  const std::vector<int> first(camp.ranks.begin(),
                               camp.ranks.begin() + static_cast<std::ptrdiff_t>(named));
  const std::size_t rest = camp.ranks.size() - named;
  const bool is_one = camp.ranks.size() == 1;
  return fmt::format("rank{} {}{} {} \"{}\"", is_one ? "" : "s", fmt::join(first, ", "),
                     rest > 0 ? fmt::format(" and {} more", rest) : "", is_one ? "has" : "have",
                     escaped(camp.text));
}

}  // namespace

void Session::on_root(const std::function<void()>& work) {
  std::string message;
  if (is_root()) message = packed(error_of(work));
  broadcast(message);
  if (!message.empty()) throw unpacked(message);
}

void Session::on_every_rank(const std::function<void()>& work) {
  std::string message = packed(error_of(work));
  // Before an error stands the host that it came from.
  const std::vector<std::string> messages =
      gather(message.empty() ? message : host_ + '\n' + message);
  if (is_root()) {
    message.clear();
    const auto first = std::ranges::find_if_not(messages, &std::string::empty);
    if (first != messages.end()) {
      const std::size_t host_end = first->find('\n');
      message = first->substr(host_end + 1);
      if (std::ranges::find(messages, std::string()) != messages.end()) {
        message.insert(
            message.find('\n') + 1,
            fmt::format("rank {} ({}): ", first - messages.begin(), first->substr(0, host_end)));
      }
    }
  }
  broadcast(message);
  if (!message.empty()) throw unpacked(message);
}

void require_same(Session& session, const std::string& what, const std::string& mine,
                  ExitCode code) {
  const std::vector<Camp> camps = camps_of(session.exchange_identity(mine));
  if (camps.size() == 1) return;
  std::vector<std::string> odd;
  for (auto camp = camps.begin() + 1; camp != camps.end(); ++camp) odd.push_back(sentence(*camp));
  throw AgreedError(code,
                    {.what = fmt::format("the ranks differ in their {}", what),
                     .why = fmt::format("{}; {}", fmt::join(odd, "; "), sentence(camps.front())),
                     .remedy = "start the same program with the same settings on every host"});
}

}  // namespace ptb
