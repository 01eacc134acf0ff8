#include "io/checkpoint/checkpoint_contents.hpp"

#include <fmt/format.h>

#include <limits>
#include <span>
#include <string_view>

#include "io/checkpoint/checkpoint_check.hpp"
#include "io/checkpoint/checkpoint_config.hpp"
#include "io/hdf5/hdf5_attribute.hpp"
#include "io/hdf5/hdf5_dataset.hpp"
#include "ptb_dist/base/numerics.hpp"

namespace ptb {
namespace {

using hdf5::checked;
using hdf5::Handle;

// --- /progress and /history ----------------------------------------------------------------------

struct HistoryColumn {
  const char* name;
  double EpochResult::*member;
};
constexpr HistoryColumn kHistory[] = {{"/history/learning_rate", &EpochResult::learning_rate},
                                      {"/history/train", &EpochResult::train},
                                      {"/history/valid", &EpochResult::valid}};

void write_progress(hid_t file, const Progress& progress, const Subject& subject) {
  const Handle group = hdf5::create_group(file, "/progress", subject);
  hdf5::write_integer(group, "epoch", progress.epoch, subject);
  hdf5::write_integer(group, "window", progress.window, subject);
  hdf5::write_integer(group, "step", progress.step, subject);
  check_can_be_saved(std::as_bytes(std::span(&progress.cross_entropy, 1)), ElementType::f64, {},
                     "/progress/cross_entropy");
  hdf5::write_real(group, "cross_entropy", progress.cross_entropy, subject);
  // For other readers: ours takes both from the history.
  if (const int best = progress.best_epoch(); best >= 0) {
    hdf5::write_integer(group, "best_epoch", best, subject);
    hdf5::write_real(group, "best_valid", progress.history[static_cast<std::size_t>(best)].valid,
                     subject);
  }
  for (const auto& [name, member] : kHistory) {
    std::vector<double> column;  // [E]
    for (const EpochResult& epoch : progress.history) column.push_back(epoch.*member);
    const Shape shape{static_cast<std::int64_t>(column.size())};
    check_can_be_saved(std::as_bytes(std::span(column)), ElementType::f64, shape, name);
    hdf5::write_dataset(file, name, ElementType::f64, shape, std::as_bytes(std::span(column)),
                        subject);
  }
}

int read_int(hid_t group, const std::string& name, const Subject& subject) {
  const std::int64_t value = hdf5::read_integer(group, name, subject);
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
    throw subject.error(fmt::format("{} is {}", name, value));
  }
  return static_cast<int>(value);
}

void read_history(hid_t file, std::vector<EpochResult>& history, const Subject& of_file) {
  const Shape shape{static_cast<std::int64_t>(history.size())};  // [E]
  std::vector<double> column(history.size());
  for (const auto& [name, member] : kHistory) {
    const Subject subject = of_file.at(name);
    const Handle dataset = hdf5::open_object(file, name, H5I_DATASET, subject);
    hdf5::check_dataset(dataset, shape, hdf5::plain(ElementType::f64), subject);
    hdf5::read_dataset(dataset, ElementType::f64, std::as_writable_bytes(std::span(column)),
                       subject);
    for (std::size_t epoch = 0; epoch < column.size(); ++epoch) {
      history[epoch].*member = column[epoch];
    }
  }
}

Progress read_progress(hid_t file, std::size_t file_bytes, const Subject& of_file) {
  const Subject subject = of_file.at("/progress");
  const Handle group = hdf5::open_object(file, "/progress", H5I_GROUP, subject);
  Progress progress;
  progress.epoch = read_int(group, "epoch", subject);
  progress.window = read_int(group, "window", subject);
  progress.step = hdf5::read_integer(group, "step", subject);
  progress.cross_entropy = hdf5::read_real(group, "cross_entropy", subject);
  check_counts(progress, file_bytes, of_file);
  progress.history.resize(static_cast<std::size_t>(progress.epoch));
  read_history(file, progress.history, of_file);
  return progress;
}

// --- /vocabulary: one run of bytes, each word followed by a line feed ----------------------------
// HDF5's own texts are either padded to the length of the longest, or references into a heap.

std::string split_attribute(std::size_t split, const char* what) {
  return fmt::format("{}_{}", kSplitNames[split], what);
}

void write_corpus(hid_t file, const CorpusIdentity& corpus, const Subject& subject) {
  std::string text;
  for (const std::string& word : corpus.words) {
    require(!word.empty() && word.find('\n') == std::string::npos, "a word is in one line");
    text += word + '\n';
  }
  hdf5::write_dataset(file, "/vocabulary", ElementType::u8,
                      {static_cast<std::int64_t>(text.size())}, std::as_bytes(std::span(text)),
                      subject);
  const Handle dataset = hdf5::open_object(file, "/vocabulary", H5I_DATASET, subject);
  for (std::size_t split = 0; split < kSplitNames.size(); ++split) {
    hdf5::write_integer(dataset, split_attribute(split, "tokens"), corpus.tokens[split], subject);
    hdf5::write_text(dataset, split_attribute(split, "xxh3_128"), corpus.digests[split], subject);
  }
}

std::vector<std::string> words_of(std::string_view text, const Subject& subject) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) throw subject.error("its last word has no line feed");
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return words;
}

CorpusIdentity read_corpus_identity(hid_t file, std::size_t file_bytes, const Subject& of_file) {
  const Subject subject = of_file.at("/vocabulary");
  const Handle dataset = hdf5::open_object(file, "/vocabulary", H5I_DATASET, subject);
  const std::int64_t length = hdf5::length_of(dataset, subject);
  if (length < 0 || static_cast<std::size_t>(length) > file_bytes) {
    throw subject.error(fmt::format("has {} bytes, the whole file has {}", length, file_bytes));
  }
  hdf5::check_dataset(dataset, {length}, hdf5::plain(ElementType::u8), subject);
  std::string text(static_cast<std::size_t>(length), '\0');
  hdf5::read_dataset(dataset, ElementType::u8, std::as_writable_bytes(std::span(text)), subject);
  CorpusIdentity corpus{.words = words_of(text, subject)};
  for (std::size_t split = 0; split < kSplitNames.size(); ++split) {
    corpus.tokens[split] = hdf5::read_integer(dataset, split_attribute(split, "tokens"), subject);
    corpus.digests[split] = hdf5::read_text(dataset, split_attribute(split, "xxh3_128"), subject);
  }
  return corpus;
}

// --- attributes of the file itself ---------------------------------------------------------------

const char* gate_order(const CheckpointInfo& info) {
  return traits_of(info.shape().cell.kind).gate_order;
}

// For a file whose configuration has been read.
void check_gate_order(hid_t file, const CheckpointInfo& info, const Subject& of_file) {
  const Subject subject = of_file.at("/");
  const std::string gates = hdf5::read_text(file, "gate_order", subject);
  if (gates == gate_order(info)) return;
  throw subject.error(
      fmt::format("gate_order is \"{}\", and not \"{}\"", escaped(gates), gate_order(info)));
}

void write_root(hid_t file, const CheckpointInfo& info, const Subject& subject) {
  std::string exact_class;
  for (const auto& [name, value] : info.exact_class) {
    require((name + value).find('\n') == std::string::npos, "an exact class is in lines");
    if (name == kNumericsMember && value == kFirstNumerics) continue;  // as the first files do
    exact_class += fmt::format("{} = {}\n", name, value);
  }
  hdf5::write_integer(file, "format", kCheckpointFormat, subject);
  hdf5::write_text(file, "gate_order", gate_order(info), subject);
  hdf5::write_text(file, "exact_class", exact_class, subject);
}

ExactClass exact_class_of(std::string_view text, const Subject& subject) {
  constexpr std::string_view kEquals = " = ";
  ExactClass result;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    const std::size_t equals = line.find(kEquals);
    if (end == std::string_view::npos || equals == std::string_view::npos) {
      throw subject.error("attribute exact_class is not made of lines \"name = value\"");
    }
    result.emplace_back(line.substr(0, equals), line.substr(equals + kEquals.size()));
    text.remove_prefix(end + 1);
  }
  return result;
}

ExactClass read_root(hid_t file, const Subject& of_file) {
  const Subject subject = of_file.at("/");
  if (hdf5::read_integer(file, "format", subject) != kCheckpointFormat) {
    throw subject.error("attribute format differs from the format that the file begins with");
  }
  return exact_class_of(hdf5::read_text(file, "exact_class", subject), subject);
}

// The type of the first tensor; all others must have the same.
ElementType read_real_type(hid_t file, const Subject& of_file) {
  const std::string name = "/parameters/embedding";
  const Subject subject = of_file.at(name);
  const Handle dataset = hdf5::open_object(file, name, H5I_DATASET, subject);
  const Handle type(checked(H5Dget_type(dataset), subject, "read its type"), H5Tclose);
  return H5Tequal(type, H5T_IEEE_F64LE) > 0 ? ElementType::f64 : ElementType::f32;
}

std::vector<std::int64_t> read_places(hid_t file, const CheckpointInfo& info,
                                      const Subject& of_file) {
  std::vector<std::int64_t> places;
  for (const auto& [name, shape] : tensors_of(info)) {
    const Subject subject = of_file.at(name);
    const Handle dataset = hdf5::open_object(file, name, H5I_DATASET, subject);
    hdf5::check_dataset(dataset, shape, hdf5::plain(info.real), subject);
    places.push_back(hdf5::offset_of(dataset, subject));
  }
  return places;
}

}  // namespace

std::vector<CheckpointFile::TensorName> tensors_of(const CheckpointInfo& info) {
  std::vector<CheckpointFile::TensorName> result;
  const ParameterTable table(info.shape());
  for (const ParameterInfo& entry : table.entries()) result.push_back({entry.name, entry.shape});
  for (const auto& [name, shape] : info.state()) result.push_back({name, shape});
  return result;
}

void write_contents(hid_t file, const CheckpointInfo& info, const Subject& subject) {
  write_root(file, info, subject.at("/"));
  write_config(file, info.config, subject);
  write_progress(file, info.progress, subject.at("/progress"));
  write_corpus(file, info.corpus, subject.at("/vocabulary"));
}

CheckpointContents read_contents(hid_t file, std::size_t file_bytes, const Subject& subject) {
  CheckpointContents contents;
  CheckpointInfo& info = contents.info;
  info.exact_class = read_root(file, subject);
  info.config = read_config(file, subject);
  check_config(info.config, subject);
  check_gate_order(file, info, subject);
  info.real = read_real_type(file, subject);
  check_size(info, file_bytes, subject);
  info.progress = read_progress(file, file_bytes, subject);
  info.corpus = read_corpus_identity(file, file_bytes, subject);
  contents.places = read_places(file, info, subject);
  return contents;
}

}  // namespace ptb
