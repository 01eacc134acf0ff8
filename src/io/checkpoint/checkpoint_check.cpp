#include "io/checkpoint/checkpoint_check.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <limits>

#include "io/checkpoint/checkpoint_config.hpp"
#include "io/files/digest.hpp"
#include "io/files/user_block.hpp"
#include "io/hdf5/reals.hpp"
#include "ptb_dist/base/random.hpp"

namespace ptb {
namespace {

void check_count(const std::string& name, std::int64_t count, std::int64_t most,
                 const Subject& subject) {
  if (count >= 0 && count <= most) return;
  throw subject.error(fmt::format("{} is {}, and not from 0 to {}", name, count, most));
}

void check_real(const std::string& name, double value, const Subject& subject) {
  if (!std::isfinite(value)) throw subject.error(fmt::format("{} is {}", name, value));
}

void check_not_negative(const std::string& name, double value, const Subject& subject) {
  check_real(name, value, subject);
  if (value < 0) throw subject.error(fmt::format("{} is {}", name, value));
}

void check_history(const Progress& progress, const Subject& subject) {
  if (progress.history.size() != static_cast<std::size_t>(progress.epoch)) {
    throw subject.error("has not one entry per epoch");
  }
  for (int epoch = 0; epoch < progress.epoch; ++epoch) {
    const EpochResult& result = progress.history[static_cast<std::size_t>(epoch)];
    const std::string of = fmt::format(" of epoch {}", epoch);
    check_not_negative("learning_rate" + of, result.learning_rate, subject);
    check_not_negative("train" + of, result.train, subject);
    check_not_negative("valid" + of, result.valid, subject);
  }
}

void check_words(const std::vector<std::string>& words, std::int64_t vocab_size,
                 const Subject& subject) {
  const auto empty = std::ranges::find(words, std::string());
  if (empty != words.end()) {
    throw subject.error(fmt::format("word {} is empty", empty - words.begin()));
  }
  if (static_cast<std::int64_t>(words.size()) > vocab_size) {
    throw subject.error(
        fmt::format("has {} words, and vocab_size is {}", words.size(), vocab_size));
  }
}

void check_corpus(const CorpusIdentity& corpus, std::int64_t vocab_size, const Subject& subject) {
  check_words(corpus.words, vocab_size, subject);
  for (std::size_t split = 0; split < kSplitNames.size(); ++split) {
    const std::string name = kSplitNames[split];
    check_count(name + "_tokens", corpus.tokens[split], std::numeric_limits<std::int32_t>::max(),
                subject);
    const std::string& digest = corpus.digests[split];
    const bool is_digest = digest.size() == kDigestDigits &&
                           digest.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!is_digest) throw subject.error(fmt::format("{}_xxh3_128 is no digest", name));
  }
}

void check_places(const CheckpointContents& contents, std::size_t file_bytes,
                  const Subject& subject) {
  const auto tensors = tensors_of(contents.info);
  if (contents.places.size() != tensors.size()) throw subject.error("lacks a tensor");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t bytes =
        tensors[i].shape.elements() * static_cast<std::int64_t>(size_of(contents.info.real));
    const std::int64_t first = kUserBlockBytes;
    const std::int64_t last = static_cast<std::int64_t>(file_bytes) - bytes;
    if (contents.places[i] >= first && contents.places[i] <= last) continue;
    throw subject.at(tensors[i].name).error("is not wholly in the file");
  }
}

}  // namespace

void check_counts(const Progress& progress, std::size_t file_bytes, const Subject& subject) {
  const Subject of_group = subject.at("/progress");
  const std::int64_t most_epochs =
      std::min<std::int64_t>(kMaxEpochs, static_cast<std::int64_t>(file_bytes / sizeof(double)));
  check_count("epoch", progress.epoch, most_epochs, of_group);
  check_count("step", progress.step, std::numeric_limits<std::int64_t>::max(), of_group);
  check_count("window", progress.window, progress.step, of_group);
}

void check_size(const CheckpointInfo& info, std::size_t file_bytes, const Subject& subject) {
  const std::int64_t elements = ParameterTable(info.shape()).elements() + elements_of(info.state());
  const std::int64_t needed = elements * static_cast<std::int64_t>(size_of(info.real));
  if (needed <= static_cast<std::int64_t>(file_bytes)) return;
  throw subject.at("/config").error(
      fmt::format("its model takes {} bytes, the whole file has {}", needed, file_bytes));
}

void check_contents(const CheckpointContents& contents, std::size_t file_bytes,
                    const Subject& subject) {
  const CheckpointInfo& info = contents.info;
  const Progress& progress = info.progress;
  check_config(info.config, subject);
  check_size(info, file_bytes, subject);
  check_counts(progress, file_bytes, subject);
  check_real("cross_entropy", progress.cross_entropy, subject.at("/progress"));
  check_history(progress, subject.at("/history"));
  check_corpus(info.corpus, info.config.vocab_size, subject.at("/vocabulary"));
  check_places(contents, file_bytes, subject);
}

void check_can_be_saved(std::span<const std::byte> values, ElementType real, const Shape& shape,
                        const std::string& name) {
  check_is_finite(values, real, shape,
                  {.code = ExitCode::diverged,
                   .what = "values that are not finite are not saved",
                   .where = name,
                   .remedy = "lower the learning rate or max_grad_norm"});
}

}  // namespace ptb
