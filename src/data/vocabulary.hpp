// The order of a vocabulary, for corpora from files and for the synthetic one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ptb {

inline constexpr std::int32_t kNoId = -1;

struct Vocabulary {
  std::vector<std::string> words;    // by id
  std::vector<std::int32_t> new_id;  // by the caller's index; kNoId for a word that never occurs
};

// Sorts words by descending count, ties by ascending byte order, and drops those of count 0.
// counts[i] belongs to words[i]; each word occurs once.
Vocabulary order_vocabulary(std::vector<std::string> words, std::span<const std::int64_t> counts);

}  // namespace ptb
