// ptb_dist checkpoint inspect|verify|diff: what is in a file, is it whole, what differs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "commands.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

void inspect(const std::string& path) {
  const CheckpointFile file(path);
  const CheckpointInfo& info = file.info();
  const Progress& progress = info.progress;
  print_line(fmt::format("{}: format {}, {} bytes, XXH3-128 {}", path, kCheckpointFormat,
                         file.bytes(), file.digest()));
  print_line(fmt::format("progress: epoch {}, window {} of it, step {}, cross-entropy so far {}",
                         progress.epoch + 1, progress.window, progress.step,
                         progress.cross_entropy));
  for (std::size_t epoch = 0; epoch < progress.history.size(); ++epoch) {
    const EpochResult& result = progress.history[epoch];
    print_line(fmt::format("epoch {}: learning rate {:.4g}, train {:.3f}, valid {:.3f}{}",
                           epoch + 1, result.learning_rate, result.train, result.valid,
                           static_cast<int>(epoch) == progress.best_epoch() ? ", the best" : ""));
  }
  for (const Key& key : config_schema()) {
    if (!key.is_mathematical) continue;
    print_line(fmt::format("config: {} = {}", key.name, toml_value(info.config, key)));
  }
  for (std::size_t s = 0; s < kSplitNames.size(); ++s) {
    print_line(fmt::format("corpus: {}: {} tokens, XXH3-128 {}", kSplitNames[s],
                           info.corpus.tokens[s], info.corpus.digests[s]));
  }
  print_line(fmt::format("corpus: {} words", info.corpus.words.size()));
  for (const auto& [name, value] : info.exact_class) {
    print_line(fmt::format("exact class: {} = {}", escaped(name), escaped(value)));
  }
  for (const CheckpointFile::TensorName& tensor : file.tensors()) {
    double squares = 0, largest = 0;
    for (const double value : file.values(tensor)) {
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    print_line(fmt::format("{} {}: norm {:.6g}, largest {:.6g}", tensor.name, tensor.shape.text(),
                           std::sqrt(squares), largest));
  }
}

void verify(const std::string& path) {
  const CheckpointFile file(path);
  print_line(fmt::format("{}: good, step {}, {} bytes, XXH3-128 {}", path,
                         file.info().progress.step, file.bytes(), file.digest()));
}

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

// Says what differs but the tensors; whether anything does.
bool diff_info(const CheckpointInfo& a, const CheckpointInfo& b) {
  bool is_different = false;
  const auto say = [&](const std::string& text) {
    print_line(text);
    is_different = true;
  };
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
  return is_different;
}

// Largest difference of each tensor; whether there is any.
bool diff_tensors(const CheckpointFile& a, const CheckpointFile& b) {
  bool is_different = false;
  const std::vector<CheckpointFile::TensorName> others = b.tensors();
  for (const CheckpointFile::TensorName& tensor : a.tensors()) {
    const auto other = std::ranges::find(others, tensor.name, &CheckpointFile::TensorName::name);
    if (other == others.end() || other->shape != tensor.shape) {
      print_line(fmt::format("{}: {} | {}", tensor.name, tensor.shape.text(),
                             other == others.end() ? "none" : other->shape.text()));
      is_different = true;
      continue;
    }
    const std::vector<double> in_a = a.values(tensor), in_b = b.values(*other);
    std::size_t place = 0, count = 0;
    for (std::size_t i = 0; i < in_a.size(); ++i) {
      count += in_a[i] != in_b[i] ? 1 : 0;
      if (std::abs(in_a[i] - in_b[i]) > std::abs(in_a[place] - in_b[place])) place = i;
    }
    if (count == 0) continue;
    is_different = true;
    print_line(
        fmt::format("{} {}: {} of {} values differ, the largest difference is {:.3g} ({} | {} at "
                    "element {})",
                    tensor.name, tensor.shape.text(), count, in_a.size(),
                    std::abs(in_a[place] - in_b[place]), in_a[place], in_b[place], place));
  }
  return is_different;
}

ExitCode diff(const std::string& path_a, const std::string& path_b) {
  const CheckpointFile a(path_a), b(path_b);
  if (a.digest() == b.digest() && a.bytes() == b.bytes()) {
    print_line("the files are equal, byte for byte");
    return ExitCode::done;
  }
  const bool info_differs = diff_info(a.info(), b.info());
  const bool tensors_differ = diff_tensors(a, b);
  if (!info_differs && !tensors_differ)
    print_line("equal in all that is read, though not in bytes");
  return ExitCode::different;
}

}  // namespace

int checkpoint_command(Session& session, const CommandLine& line) {
  ExitCode code = ExitCode::done;
  session.on_root([&] {
    const std::string& verb = line.files.front();
    if (verb == "diff") {
      code = diff(line.files[1], line.files[2]);
      return;
    }
    std::vector<Complaint> complaints;  // every file is looked at, also behind a bad one
    for (std::size_t i = 1; i < line.files.size(); ++i) {
      try {
        verb == "verify" ? verify(line.files[i]) : inspect(line.files[i]);
      } catch (const Error& error) {
        code = error.code();
        for (const std::string& text : error.lines()) complaints.push_back({.what = text});
      }
    }
    if (!complaints.empty()) throw Error(code, std::move(complaints));
  });
  broadcast_value(session, code);
  return static_cast<int>(code);
}

}  // namespace ptb
