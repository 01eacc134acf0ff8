#include "ptb_dist/run/checkpoint_fit.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace ptb {
namespace {

// How to give the corpus of a checkpoint. A checkpoint does not have the sizes of a synthetic
// corpus, but the corpus can be made again and compared.
std::string remedy_for_corpus(const CheckpointFile& file) {
  const CorpusIdentity& then = file.info().corpus;
  const int least = least_synthetic_vocab(then.words);
  if (least == 0) return "give --data with the corpus that it was trained on";
  const std::int64_t tokens = then.tokens[0];
  const auto vocab_size = static_cast<int>(file.info().config.vocab_size);
  for (const int words : {static_cast<int>(Config{}.synthetic_vocab), vocab_size, least}) {
    if (words < least || tokens < 100) continue;
    if (identity_of(synthetic_corpus(tokens, words)) != then) continue;
    return fmt::format(
        "it was trained on the synthetic corpus: give --data synthetic --synthetic-tokens {} "
        "--synthetic-vocab {}",
        tokens, words);
  }
  return fmt::format(
      "it was probably trained on a synthetic corpus: give --data synthetic --synthetic-tokens {} "
      "and the "
      "--synthetic-vocab of that run, {} or more",
      tokens, least);
}

Error other_corpus(const CheckpointFile& file, const std::string& why, const std::string& remedy) {
  return {ExitCode::bad_data,
          {.what = "the checkpoint belongs to another corpus",
           .where = file.path().string(),
           .why = why,
           .remedy = remedy}};
}

}  // namespace

void check_vocabulary(const CheckpointFile& file, const std::vector<std::string>& now,
                      const std::string& source) {
  const std::vector<std::string>& then = file.info().corpus.words;
  if (then == now) return;
  const auto id = static_cast<std::size_t>(std::ranges::mismatch(then, now).in1 - then.begin());
  const auto word = [id](const std::vector<std::string>& words) {
    return id < words.size() ? '"' + escaped(words[id]) + '"' : std::string("none");
  };
  throw other_corpus(file,
                     fmt::format("word {} of its {} words is {}; of the {} words in {} it is {}",
                                 id, then.size(), word(then), now.size(), source, word(now)),
                     remedy_for_corpus(file));
}

void check_corpus(const CheckpointFile& file, const CorpusIdentity& now, const std::string& source,
                  bool may_differ) {
  check_vocabulary(file, now.words, source);
  if (may_differ) return;
  const CorpusIdentity& then = file.info().corpus;
  for (std::size_t s = 0; s < kSplitNames.size(); ++s) {
    if (then.tokens[s] == now.tokens[s] && then.digests[s] == now.digests[s]) continue;
    throw other_corpus(
        file,
        fmt::format("its {} text has {} tokens with digest {}; in {} it has {} with digest {}",
                    kSplitNames[s], then.tokens[s], then.digests[s], source, now.tokens[s],
                    now.digests[s]),
        remedy_for_corpus(file) + ", or allow it with --override data");
  }
}

void check_model(const CheckpointFile& file, const Config& config, const Corpus& corpus) {
  check_vocabulary(file, corpus.words, corpus.source);
  for (const Key& key : config_schema()) {
    if (key.name != "cell" && key.name != "forget_bias") continue;
    const std::string then = toml_value(file.info().config, key);
    const std::string now = toml_value(config, key);
    if (then == now) continue;
    throw Error(ExitCode::usage, {.what = "--init-from",
                                  .where = config.init_from,
                                  .why = fmt::format("it was trained with {} {}, this run has {}",
                                                     key.name, then, now),
                                  .remedy = fmt::format("give {} {}", key.flag(), then)});
  }
}

}  // namespace ptb
