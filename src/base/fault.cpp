#include "ptb_dist/base/fault.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <string_view>
#include <thread>

#include "ptb_dist/base/console.hpp"

namespace ptb {
namespace {

constexpr std::array<std::string_view, 4> kKinds = {"kill", "hang", "slow", "nan"};
constexpr std::array<std::string_view, 4> kPhases = {"train", "validation", "test", "save"};

template <class Enumeration>
bool read_name(std::string_view text, const std::array<std::string_view, 4>& names,
               Enumeration& value) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text != names[i]) continue;
    value = static_cast<Enumeration>(i);
    return true;
  }
  return false;
}

template <class Integer>
bool read_number(std::string_view text, Integer& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && value >= 0;
}

// The part before the separator; the rest stays in `text`. Without a separator it is everything.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view head = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return head;
}

void say(const Fault& fault, int rank) {
  console::write(console::Stream::error,
                 fmt::format("ptb_dist: warning: rank {} (process {}): injected {}\n", rank,
                             ::getpid(), fault.text()));
}

}  // namespace

std::string Fault::text() const {
  return fmt::format("{}@{}:{}:{}", kKinds[static_cast<std::size_t>(kind)], rank, window,
                     kPhases[static_cast<std::size_t>(phase)]);
}

std::optional<Fault> parse_fault(const std::string& text) {
  std::string_view rest = text;
  Fault fault;
  const bool is_good = read_name(take_until(rest, '@'), kKinds, fault.kind) &&
                       read_number(take_until(rest, ':'), fault.rank) &&
                       read_number(take_until(rest, ':'), fault.window) &&
                       (rest.empty() || read_name(rest, kPhases, fault.phase));
  if (!is_good || text.ends_with(':')) return std::nullopt;
  if (fault.kind == Fault::Kind::nan && fault.phase != Fault::Phase::train) return std::nullopt;
  return fault;
}

Faults::Faults(const std::vector<Fault>& all, int rank) : rank_(rank) {
  for (const Fault& fault : all) {
    if (fault.rank == rank) mine_.push_back(fault);
  }
}

void Faults::at(Fault::Phase phase, std::int64_t step) {
  for (const Fault& fault : mine_) {
    const bool is_later_too = phase != Fault::Phase::train || fault.kind == Fault::Kind::slow;
    const bool is_due = is_later_too ? step >= fault.window : step == fault.window;
    if (fault.phase != phase || fault.kind == Fault::Kind::nan || !is_due) continue;
    say(fault, rank_);
    if (fault.kind == Fault::Kind::kill) ::raise(SIGKILL);
    while (fault.kind == Fault::Kind::hang) ::pause();
    std::this_thread::sleep_for(std::chrono::milliseconds(kSlowMilliseconds));
  }
}

bool Faults::spoils(std::int64_t step) const {
  for (const Fault& fault : mine_) {
    if (fault.kind == Fault::Kind::nan && fault.window == step) return true;
  }
  return false;
}

}  // namespace ptb
