// The order of a vocabulary, which corpora from files and the synthetic one share.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ptb {

inline constexpr std::int32_t kNoId = -1;

struct Vocabulary {
  std::vector<std::string> words;    // by id
  std::vector<std::int32_t> new_id;  // by the caller's index; kNoId for a word that never occurred
};

// Sorts words by descending count, ties by ascending byte order, and leaves out those of count 0.
// counts[i] belongs to words[i]; no word stands twice.
Vocabulary order_vocabulary(std::vector<std::string> words, std::span<const std::int64_t> counts);

}  // namespace ptb
