#include "ptb_dist/io/checkpoint_text.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <functional>

namespace ptb {
namespace {

void diff_progress(const Progress& a, const Progress& b,
                   const std::function<void(const std::string&)>& say) {
  const auto compare = [&say](const std::string& what, const auto& in_a, const auto& in_b) {
    if (in_a != in_b) say(fmt::format("progress: {} {} | {}", what, in_a, in_b));
  };
  compare("epoch", a.epoch + 1, b.epoch + 1);
  compare("window", a.window, b.window);
  compare("step", a.step, b.step);
  compare("cross-entropy so far", a.cross_entropy, b.cross_entropy);
  for (std::size_t e = 0; e < std::min(a.history.size(), b.history.size()); ++e) {
    const std::string epoch = fmt::format("epoch {}: ", e + 1);
    compare(epoch + "learning rate", a.history[e].learning_rate, b.history[e].learning_rate);
    compare(epoch + "train perplexity", a.history[e].train, b.history[e].train);
    compare(epoch + "valid perplexity", a.history[e].valid, b.history[e].valid);
  }
}

// All but the tensors.
void diff_info(const CheckpointInfo& a, const CheckpointInfo& b, std::vector<std::string>& lines) {
  const auto say = [&](const std::string& text) { lines.push_back(text); };
  for (const Key& key : config_schema()) {
    const std::string in_a = toml_value(a.config, key), in_b = toml_value(b.config, key);
    if (in_a != in_b) say(fmt::format("config: {} = {} | {}", key.name, in_a, in_b));
  }
  diff_progress(a.progress, b.progress, say);
  if (a.corpus != b.corpus) {
    say(fmt::format("corpus: {} words | {}, or other text", a.corpus.words.size(),
                    b.corpus.words.size()));
  }
  const std::string members = differences(b.exact_class, a.exact_class);
  if (!members.empty()) say(fmt::format("exact class: the second has {}", escaped(members, 2000)));
}

void diff_tensors(const CheckpointFile& a, const CheckpointFile& b,
                  std::vector<std::string>& lines) {
  const std::vector<CheckpointFile::TensorName> others = b.tensors();
  for (const CheckpointFile::TensorName& tensor : a.tensors()) {
    const auto other = std::ranges::find(others, tensor.name, &CheckpointFile::TensorName::name);
    if (other == others.end() || other->shape != tensor.shape) {
      lines.push_back(fmt::format("{}: {} | {}", tensor.name, tensor.shape.text(),
                                  other == others.end() ? "none" : other->shape.text()));
      continue;
    }
    const std::vector<double> in_a = a.values(tensor), in_b = b.values(*other);
    std::size_t place = 0, count = 0;
    for (std::size_t i = 0; i < in_a.size(); ++i) {
      count += in_a[i] != in_b[i] ? 1 : 0;
      if (std::abs(in_a[i] - in_b[i]) > std::abs(in_a[place] - in_b[place])) place = i;
    }
    if (count == 0) continue;
    lines.push_back(
        fmt::format("{} {}: {} of {} values differ, the largest difference is {:.3g} ({} | {} at "
                    "element {})",
                    tensor.name, tensor.shape.text(), count, in_a.size(),
                    std::abs(in_a[place] - in_b[place]), in_a[place], in_b[place], place));
  }
}

}  // namespace

std::vector<std::string> description_of(const CheckpointFile& file) {
  std::vector<std::string> lines;
  const CheckpointInfo& info = file.info();
  const Progress& progress = info.progress;
  lines.push_back(fmt::format("{}: format {}, {} bytes, XXH3-128 {}", file.path().string(),
                              kCheckpointFormat, file.bytes(), file.digest()));
  lines.push_back(
      fmt::format("progress: epoch {}, window {} of it, step {}, cross-entropy so far {}",
                  progress.epoch + 1, progress.window, progress.step, progress.cross_entropy));
  for (std::size_t epoch = 0; epoch < progress.history.size(); ++epoch) {
    const EpochResult& result = progress.history[epoch];
    lines.push_back(
        fmt::format("epoch {}: learning rate {:.4g}, train {:.3f}, valid {:.3f}{}", epoch + 1,
                    result.learning_rate, result.train, result.valid,
                    static_cast<int>(epoch) == progress.best_epoch() ? ", the best" : ""));
  }
  for (const Key& key : config_schema()) {
    if (!key.is_mathematical) continue;
    lines.push_back(fmt::format("config: {} = {}", key.name, toml_value(info.config, key)));
  }
  for (std::size_t s = 0; s < kSplitNames.size(); ++s) {
    lines.push_back(fmt::format("corpus: {}: {} tokens, XXH3-128 {}", kSplitNames[s],
                                info.corpus.tokens[s], info.corpus.digests[s]));
  }
  lines.push_back(fmt::format("corpus: {} words", info.corpus.words.size()));
  for (const auto& [name, value] : info.exact_class) {
    lines.push_back(fmt::format("exact class: {} = {}", escaped(name), escaped(value)));
  }
  for (const CheckpointFile::TensorName& tensor : file.tensors()) {
    double squares = 0, largest = 0;
    for (const double value : file.values(tensor)) {
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    lines.push_back(fmt::format("{} {}: norm {:.6g}, largest {:.6g}", tensor.name,
                                tensor.shape.text(), std::sqrt(squares), largest));
  }
  return lines;
}

std::vector<std::string> differences_of(const CheckpointFile& a, const CheckpointFile& b) {
  std::vector<std::string> lines;
  diff_info(a.info(), b.info(), lines);
  diff_tensors(a, b, lines);
  return lines;
}

}  // namespace ptb
