// The built-in corpus: a source of text whose entropy rate is known in closed form.
//
// Word r of V (r from 0) has Zipf's weight z_r = 1/(r+1) / Σ 1/(i+1) and belongs to class r mod C,
// with C = ⌊√V⌋. After a word of class c, the next one is drawn
//   with probability s = 3/4 from the words of class c, else from all words, by the same weights.
// So only the class of the last word decides what may follow, and words come in runs of a class.
// With π_c = Σ_{r in c} z_r:
//   p(r | c) = z_r a_c            if r is in class c, where a_c = s/π_c + 1 − s
//              z_r (1 − s)        else
//   Σ_c π_c p(r | c) = z_r        hence the words' frequencies are Zipf's,
//   entropy rate = −Σ_c π_c Σ_r p(r | c) log p(r | c),
// and exp of it is the lowest perplexity that a model can reach on average: 51 for 10,000 words. A
// model that ignores the context has 741 (about as on PTB).
//
// Word 0 is <unk>. Each split begins with it, so it is always in the vocabulary. A word that the
// training split lacks becomes <unk> in the other splits. With the default sizes there is none. If
// there is one, the entropy of a split is a little below the source's, so the bound is too high.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/random.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "tokenizer.hpp"
#include "vocabulary.hpp"

namespace ptb {
namespace {

// s as a threshold for 32 random bits: 3/4, exactly.
constexpr std::uint32_t kStayBelow = 3u << 30;
constexpr double kTwoTo32 = 4294967296.0;
constexpr double kStay = kStayBelow / kTwoTo32;

// PTB's proportions.
constexpr std::array<std::int64_t, 3> kPtbTokens = {929'589, 73'760, 82'430};

// Cumulative weights of some words. They are built and searched with sums, products and comparisons
// only, because these round alike on every machine.
class WeightTable {
 public:
  // Words first, first + stride, ... below `words`.
  WeightTable(int first, int stride, int words) : first_(first), stride_(stride) {
    double sum = 0;
    for (int r = first; r < words; r += stride) cumulative_.push_back(sum += 1.0 / (r + 1));
  }
  double sum() const { return cumulative_.back(); }
  // Σ z log z of these words, z = weight / total.
  double z_log_z(double total) const {
    double result = 0;
    for (std::size_t i = 0; i < cumulative_.size(); ++i) {
      const double z = 1.0 / ((first_ + stride_ * static_cast<double>(i) + 1) * total);
      result += z * std::log(z);
    }
    return result;
  }
  // The word at which the cumulative sum passes `fraction` in [0, 1) of the whole.
  int word_at(double fraction) const {
    const auto place = std::upper_bound(cumulative_.begin(), cumulative_.end(), fraction * sum());
    return first_ + stride_ * static_cast<int>(place - cumulative_.begin());
  }

 private:
  int first_;
  int stride_;
  std::vector<double> cumulative_;
};

class Source {
 public:
  explicit Source(int vocab_size)
      : classes_(static_cast<int>(std::sqrt(static_cast<double>(vocab_size)))),
        all_words_(0, 1, vocab_size) {
    for (int c = 0; c < classes_; ++c) class_words_.emplace_back(c, classes_, vocab_size);
  }

  // The first `tokens` words of a split.
  std::vector<std::int32_t> text(std::uint32_t split, std::int64_t tokens) const {
    constexpr std::uint64_t kSeed = 0;
    std::vector<std::int32_t> words = {0};
    words.reserve(static_cast<std::size_t>(tokens));
    RandomBlock random = random_stream(kSeed, Purpose::corpus, split, 0);
    for (std::uint64_t i = 1; i < static_cast<std::uint64_t>(tokens); ++i) {
      if (i % 4 == 0) random = random_stream(kSeed, Purpose::corpus, split, i / 4);
      words.push_back(next_word(words.back(), random[i % 4]));
    }
    return words;
  }

  // In nats a word.
  double entropy_rate() const {
    const double total = all_words_.sum();
    double all_z_log_z = 0;
    for (const WeightTable& words : class_words_) all_z_log_z += words.z_log_z(total);
    double entropy = 0;
    for (const WeightTable& words : class_words_) {
      const double pi = words.sum() / total;
      const double a = kStay / pi + 1 - kStay;
      const double z_log_z = words.z_log_z(total);
      const double inside = a * (z_log_z + pi * std::log(a));
      const double outside = (1 - kStay) * (all_z_log_z - z_log_z + (1 - pi) * std::log(1 - kStay));
      entropy -= pi * (inside + outside);
    }
    return entropy;
  }

 private:
  // One random number decides the branch and, scaled up again, the word.
  std::int32_t next_word(std::int32_t last, std::uint32_t random) const {
    if (random < kStayBelow) {
      const WeightTable& same_class = class_words_[static_cast<std::size_t>(last % classes_)];
      return same_class.word_at(random / (kStay * kTwoTo32));
    }
    return all_words_.word_at((random - kStayBelow) / (kTwoTo32 - kStayBelow));
  }

  int classes_;
  WeightTable all_words_;
  std::vector<WeightTable> class_words_;
};

// Names of the source's words: <unk>, then w00002, w00003, ... with the word's place in Zipf's
// order.
std::vector<std::string> source_words(int vocab_size) {
  const auto digits = std::to_string(vocab_size).size();
  std::vector<std::string> words = {kUnknownWord};
  for (int r = 1; r < vocab_size; ++r) words.push_back(fmt::format("w{:0{}}", r + 1, digits));
  return words;
}

}  // namespace

int least_synthetic_vocab(std::span<const std::string> words) {
  int least = 0;
  for (const std::string& word : words) {
    int number = 1;  // of <unk>
    const char* const end = word.data() + word.size();
    if (word != kUnknownWord) {
      if (word.size() < 2 || word[0] != 'w') return 0;
      const auto read = std::from_chars(word.data() + 1, end, number);
      if (read.ec != std::errc() || read.ptr != end || number < 2) return 0;
    }
    least = std::max(least, number);
  }
  return least;
}

Corpus synthetic_corpus(std::int64_t train_tokens, int vocab_size) {
  require(train_tokens >= 100 && vocab_size >= 1, "train_tokens >= 100 and vocab_size >= 1");
  const Source source(vocab_size);
  Corpus corpus;
  corpus.source = fmt::format("synthetic ({} words, {} training tokens)", vocab_size, train_tokens);
  corpus.perplexity_bound = std::exp(source.entropy_rate());
  for (std::uint32_t s = 0; s < kPtbTokens.size(); ++s) {
    corpus.tokens[s] = source.text(s, train_tokens * kPtbTokens[s] / kPtbTokens[0]);
  }

  std::vector<std::int64_t> counts(static_cast<std::size_t>(vocab_size), 0);
  for (const std::int32_t word : corpus.tokens[0]) ++counts[static_cast<std::size_t>(word)];
  Vocabulary vocabulary = order_vocabulary(source_words(vocab_size), counts);
  for (std::size_t s = 0; s < kPtbTokens.size(); ++s) {
    for (std::int32_t& token : corpus.tokens[s]) {
      const std::int32_t id = vocabulary.new_id[static_cast<std::size_t>(token)];
      if (id == kNoId) ++corpus.unknown[s];
      token = id == kNoId ? vocabulary.new_id[0] : id;
    }
  }
  corpus.words = std::move(vocabulary.words);
  return corpus;
}

}  // namespace ptb
