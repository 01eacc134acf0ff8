#include "ptb_dist/io/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <span>

#include "io/files/digest.hpp"
#include "ptb_dist/base/numerics.hpp"

namespace ptb {
namespace {

// Empty if the class does not have the member. The first checkpoints did not have `numerics`.
std::string value_of(const ExactClass& members, const std::string& name) {
  const auto found =
      std::ranges::find_if(members, [&name](const auto& member) { return member.first == name; });
  if (found != members.end()) return found->second;
  return name == kNumericsMember ? kFirstNumerics : std::string();
}

}  // namespace

int Progress::best_epoch() const {
  const auto best = std::ranges::min_element(history, {}, &EpochResult::valid);
  return best == history.end() ? -1 : static_cast<int>(best - history.begin());
}

CorpusIdentity identity_of(const Corpus& corpus) {
  static_assert(std::endian::native == std::endian::little, "ids are digested as they lie");
  CorpusIdentity identity{.words = corpus.words};
  for (std::size_t split = 0; split < kSplitNames.size(); ++split) {
    const std::vector<std::int32_t>& ids = corpus.tokens[split];
    identity.tokens[split] = static_cast<std::int64_t>(ids.size());
    identity.digests[split] = digest_of({std::as_bytes(std::span(ids))});
  }
  return identity;
}

std::string differences(const ExactClass& now, const ExactClass& then) {
  std::vector<std::string> found;
  const auto compare = [&](const std::string& name) {
    const std::string value_now = value_of(now, name), value_then = value_of(then, name);
    if (value_now == value_then) return;
    const auto shown = [](const std::string& value) { return value.empty() ? "none" : value; };
    found.push_back(fmt::format("{} {} instead of {}", name, shown(value_now), shown(value_then)));
  };
  for (const auto& [name, value] : now) compare(name);
  for (const auto& [name, value] : then) {
    const bool is_compared = std::ranges::any_of(
        now, [&name = name](const auto& member) { return member.first == name; });
    if (!is_compared) compare(name);
  }
  return fmt::format("{}", fmt::join(found, "; "));
}

ModelShape CheckpointInfo::shape() const { return shape_of(config); }

std::vector<StateInfo> CheckpointInfo::state() const {
  return state_table(shape(), config.batch_size);
}

HostState make_host_state(const std::vector<StateInfo>& table, ElementType real) {
  HostState state;
  for (const auto& [name, shape] : table) {
    const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(real);
    state.push_back({.name = name, .shape = shape, .values = std::vector<std::byte>(bytes)});
  }
  return state;
}

std::int64_t checkpoint_bytes(const ParameterTable& table, const std::vector<StateInfo>& state,
                              std::size_t real_bytes) {
  // For headers, groups, and the words of the vocabulary.
  constexpr std::int64_t kHeaders = 16 << 10, kWord = 8;
  const std::int64_t words = table.entries().front().shape[0];
  return (table.elements() + elements_of(state)) * static_cast<std::int64_t>(real_bytes) +
         words * kWord + kHeaders;
}

}  // namespace ptb
