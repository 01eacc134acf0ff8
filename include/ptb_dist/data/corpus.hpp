// A corpus: three splits of token ids over one vocabulary.
//
// Reader's rules: a newline becomes the token <eos>; tokens are split at ASCII white space (space,
// tab, CR, VT, FF), so CRLF files read like LF files; the vocabulary comes from the training split
// alone, sorted by descending count, ties by ascending byte order, and a token's id is its place in
// that order. A word of another split that is not in the vocabulary becomes <unk> and is counted.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ptb {

enum class Split { train = 0, valid = 1, test = 2 };
inline constexpr std::array<const char*, 3> kSplitNames = {"train", "valid", "test"};

struct Corpus {
  std::string source;              // what the log calls it: a folder, or "synthetic ..."
  std::vector<std::string> words;  // vocabulary, by id; in a run only rank 0 has it
  std::array<std::vector<std::int32_t>, 3> tokens;  // ids, by Split
  std::array<std::int64_t, 3> unknown{};            // tokens replaced by <unk>, by Split
  // Lines that end with the end mark of another tool ("<eos>", "</s>"), by Split, and the first
  // such mark. Their line feed becomes <eos> as well, so each of them ends twice.
  std::array<std::int64_t, 3> marked_lines{};
  std::string end_mark{};
  // exp(entropy rate), which no model can beat on average; only a synthetic source knows it.
  std::optional<double> perplexity_bound;

  const std::vector<std::int32_t>& split(Split s) const {
    return tokens[static_cast<std::size_t>(s)];
  }
};

// Reads ptb.train.txt, ptb.valid.txt and ptb.test.txt in `folder`. The vocabulary may have up to
// `vocab_size` words. Error 65 for any defect of a file (path, line, byte offset), for more words
// than vocab_size, and for unknown words if the training split has no <unk>.
Corpus read_corpus(const std::filesystem::path& folder, int vocab_size);

// The words of a vocabulary that is too large are counted up to here, for the message.
inline constexpr int kMaxCountedWords = 1'000'000;

// Error 65 unless the `words` distinct words of the training split in `folder` fit vocab_size.
void check_vocabulary_size(const std::filesystem::path& folder, std::size_t words, int vocab_size);

// A deterministic class-based bigram source with Zipf-distributed words, in the shape of PTB: with
// the default arguments 10,000 words and splits of the same sizes. Its entropy rate is known in
// closed form (src/data/synthetic.cpp). The same on every machine and rank count; it does not
// depend on the run's seed. `train_tokens` >= 100; valid and test keep PTB's proportions to it.
Corpus synthetic_corpus(std::int64_t train_tokens = 929'589, int vocab_size = 10'000);

// The smallest vocab_size with which synthetic_corpus has all these words; 0 if it never has.
int least_synthetic_vocab(std::span<const std::string> words);

}  // namespace ptb
