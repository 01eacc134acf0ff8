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
  std::vector<std::string> words;  // vocabulary, by id; of a run's ranks only rank 0 has it
  std::array<std::vector<std::int32_t>, 3> tokens;  // ids, by Split
  std::array<std::int64_t, 3> unknown{};            // tokens replaced by <unk>, by Split
  // Lines that end in a mark which other tools put there ("<eos>", "</s>"), by Split, and the first
  // such mark: their line feed becomes <eos> as well, so they end twice.
  std::array<std::int64_t, 3> marked_lines{};
  std::string end_mark{};
  // exp(entropy rate), which no model can beat on average; only a synthetic source knows it.
  std::optional<double> perplexity_bound;

  const std::vector<std::int32_t>& split(Split s) const {
    return tokens[static_cast<std::size_t>(s)];
  }
};

// Reads ptb.train.txt, ptb.valid.txt and ptb.test.txt in `folder`. The vocabulary may have up to
// `vocab_size` words. Error 65 for whatever is wrong with a file (path, line, byte offset), for
// more words than vocab_size, and for unknown words when the training split has no <unk>.
Corpus read_corpus(const std::filesystem::path& folder, int vocab_size);

// A vocabulary that is too large is counted this far, so that the message can tell its size.
inline constexpr int kMaxCountedWords = 1'000'000;

// Error 65 unless the `words` distinct words of the training split in `folder` fit vocab_size.
void check_vocabulary_size(const std::filesystem::path& folder, std::size_t words, int vocab_size);

// A deterministic class-based bigram source with Zipf-distributed words, in the shape of PTB: with
// the default arguments 10,000 words and splits of the same sizes. Its entropy rate is known in
// closed form (src/data/synthetic.cpp). The same on every machine and rank count; it does not
// depend on the run's seed. `train_tokens` >= 100; valid and test keep PTB's proportions to it.
Corpus synthetic_corpus(std::int64_t train_tokens = 929'589, int vocab_size = 10'000);

// The least vocab_size with which synthetic_corpus makes words like these; 0 if any of them is not
// one of its words.
int least_synthetic_vocab(std::span<const std::string> words);

}  // namespace ptb
