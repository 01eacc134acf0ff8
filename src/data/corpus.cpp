#include "ptb_dist/data/corpus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/units.hpp"
#include "tokenizer.hpp"
#include "vocabulary.hpp"

namespace ptb {
namespace {

constexpr std::size_t kMaxVocabularyBytes = std::size_t{128} << 20;

using WordIndex = std::unordered_map<std::string, std::int32_t>;

// The training split; its words are numbered by first appearance.
struct TrainingText {
  WordIndex index;
  std::vector<std::int64_t> counts;  // by index
  std::vector<std::int32_t> tokens;
};

[[noreturn]] void refuse_vocabulary(const std::filesystem::path& path, std::string why,
                                    std::string remedy) {
  throw Error(ExitCode::bad_data, {.what = "vocabulary is too large",
                                   .where = path.string(),
                                   .why = std::move(why),
                                   .remedy = std::move(remedy)});
}

std::filesystem::path path_of(const std::filesystem::path& folder, Split split) {
  return folder / fmt::format("ptb.{}.txt", kSplitNames[static_cast<std::size_t>(split)]);
}

// Copies what the tokenizer has counted of end marks.
void note_marks(const Tokenizer& tokens, Split split, Corpus& corpus) {
  corpus.marked_lines[static_cast<std::size_t>(split)] = tokens.marked_lines();
  if (corpus.end_mark.empty()) corpus.end_mark = tokens.end_mark();
}

TrainingText read_training_text(const std::filesystem::path& folder, int vocab_size,
                                Corpus& corpus) {
  const std::filesystem::path path = path_of(folder, Split::train);
  const auto vocabulary_limit = static_cast<std::size_t>(vocab_size);
  TrainingText text;
  std::size_t vocabulary_bytes = 0;
  Tokenizer tokens(path);
  while (tokens.next()) {
    const auto [entry, is_new] =
        text.index.try_emplace(tokens.word(), static_cast<std::int32_t>(text.index.size()));
    if (is_new) {
      text.counts.push_back(0);
      vocabulary_bytes += tokens.word().size();
      if (vocabulary_bytes > kMaxVocabularyBytes) {
        refuse_vocabulary(
            path,
            fmt::format("its first {} distinct words take more than {}", text.index.size(),
                        bytes_text(std::int64_t{kMaxVocabularyBytes})),
            "replace rare words by <unk>");
      }
      if (text.index.size() > std::max(vocabulary_limit, std::size_t{kMaxCountedWords})) break;
    }
    ++text.counts[static_cast<std::size_t>(entry->second)];
    // Beyond the limit only the size of the vocabulary matters, for the message.
    if (text.index.size() <= vocabulary_limit) text.tokens.push_back(entry->second);
  }
  check_vocabulary_size(folder, text.index.size(), vocab_size);
  note_marks(tokens, Split::train, corpus);
  return text;
}

// Words by their index in `index`.
std::vector<std::string> words_of(const WordIndex& index) {
  std::vector<std::string> words(index.size());
  for (const auto& [word, i] : index) words[static_cast<std::size_t>(i)] = word;
  return words;
}

void read_split(const std::filesystem::path& folder, Split split, const WordIndex& ids_of_words,
                Corpus& corpus) {
  const auto s = static_cast<std::size_t>(split);
  const auto unknown_word = ids_of_words.find(kUnknownWord);
  Tokenizer tokens(path_of(folder, split));
  while (tokens.next()) {
    auto entry = ids_of_words.find(tokens.word());
    if (entry == ids_of_words.end()) {
      entry = unknown_word;
      ++corpus.unknown[s];
    }
    if (entry == ids_of_words.end()) {
      throw Error(ExitCode::bad_data,
                  {.what = "unknown word in corpus",
                   .where = tokens.place(),
                   .why = fmt::format("the training split has neither \"{}\" nor <unk>",
                                      escaped(tokens.word(), 60)),
                   .remedy = "replace rare words of the training split by <unk>"});
    }
    corpus.tokens[s].push_back(entry->second);
  }
  note_marks(tokens, split, corpus);
}

void check_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return;
  throw Error(ExitCode::bad_data,
              {.what = "no corpus",
               .where = folder.string(),
               .why = error ? error.message() : "it is not a folder",
               .remedy = "give a folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt (launch/"
                         "get_ptb.sh makes one), or --data synthetic"});
}

}  // namespace

Vocabulary order_vocabulary(std::vector<std::string> words, std::span<const std::int64_t> counts) {
  std::vector<std::size_t> order(words.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return counts[i] == 0; });
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    // std::string compares its characters as unsigned bytes.
    return counts[a] != counts[b] ? counts[a] > counts[b] : words[a] < words[b];
  });
  Vocabulary result;
  result.new_id.assign(words.size(), kNoId);
  for (const std::size_t i : order) {
    result.new_id[i] = static_cast<std::int32_t>(result.words.size());
    result.words.push_back(std::move(words[i]));
  }
  return result;
}

void check_vocabulary_size(const std::filesystem::path& folder, std::size_t words, int vocab_size) {
  if (words <= static_cast<std::size_t>(vocab_size)) return;
  const bool is_exact = words <= kMaxCountedWords;
  refuse_vocabulary(
      path_of(folder, Split::train),
      fmt::format("{} {} distinct words, vocab_size is {}", is_exact ? "it has" : "more than",
                  is_exact ? words : words - 1, vocab_size),
      is_exact ? fmt::format("give --vocab-size {}, or replace rare words by <unk>", words)
               : "replace rare words by <unk>");
}

Corpus read_corpus(const std::filesystem::path& folder, int vocab_size) {
  check_folder(folder);
  Corpus corpus;
  TrainingText training = read_training_text(folder, vocab_size, corpus);
  Vocabulary vocabulary = order_vocabulary(words_of(training.index), training.counts);
  const auto new_id = [&](std::int32_t index) {
    return vocabulary.new_id[static_cast<std::size_t>(index)];
  };
  for (std::int32_t& token : training.tokens) token = new_id(token);
  for (auto& [word, id] : training.index) id = new_id(id);

  corpus.source = folder.string();
  corpus.words = std::move(vocabulary.words);
  corpus.tokens[0] = std::move(training.tokens);
  for (const Split split : {Split::valid, Split::test}) {
    read_split(folder, split, training.index, corpus);
  }
  return corpus;
}

}  // namespace ptb
