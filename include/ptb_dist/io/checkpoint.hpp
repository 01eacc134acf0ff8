// A checkpoint: one HDF5 file with the parameters, recurrent state, progress and identity of a run.
//
// Its bytes are a pure function of the mathematical configuration, the corpus, the initial
// parameters, the step, and the exact class of every stretch that was run: no path, time or host is
// in it, so that two runs can be compared with cmp. Nothing in it belongs to one rank.
// src/io/README.md lists what is in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/model/parameters.hpp"
#include "ptb_dist/model/state_table.hpp"

namespace ptb {

// The format that is written, and the only one that is read.
inline constexpr int kCheckpointFormat = 1;

struct EpochResult {
  double learning_rate = 0;
  double train = 0;  // perplexities
  double valid = 0;

  static auto members(auto& self) {  // for base/archive.hpp
    auto& [learning_rate, train, valid] = self;
    return std::tie(learning_rate, train, valid);
  }
  bool operator==(const EpochResult&) const = default;
};

// How far a run has come. An epoch ends with its validation: then `epoch` is raised and `window` 0.
struct Progress {
  int epoch = 0;             // the current one, from 0
  int window = 0;            // windows of it that are done
  std::int64_t step = 0;     // windows of the run that are done
  double cross_entropy = 0;  // over global lanes, summed over the windows of this epoch, in nats
  std::vector<EpochResult> history{};  // of the epochs that have ended; `epoch` entries

  // The epoch with the lowest validation perplexity, the first of equals; -1 if none has ended.
  int best_epoch() const;
  static auto members(auto& self) {
    auto& [epoch, window, step, cross_entropy, history] = self;
    return std::tie(epoch, window, step, cross_entropy, history);
  }
  bool operator==(const Progress&) const = default;
};

// Identifies the text, so that a run does not resume on another one.
struct CorpusIdentity {
  std::vector<std::string> words{};      // vocabulary, by id
  std::array<std::int64_t, 3> tokens{};  // by Split
  std::array<std::string, 3> digests{};  // XXH3-128 of the ids (i32, little endian), by Split

  static auto members(auto& self) {
    auto& [words, tokens, digests] = self;
    return std::tie(words, tokens, digests);
  }
  bool operator==(const CorpusIdentity&) const = default;
};
CorpusIdentity identity_of(const Corpus& corpus);

// What must be equal for a run to be repeated bit for bit: (name, value) pairs such as
// ("ranks", "4"), in a fixed order. No value has a line feed.
using ExactClass = std::vector<std::pair<std::string, std::string>>;
// "ranks 4 instead of 2; ..." for the members that differ, empty if none does.
std::string differences(const ExactClass& now, const ExactClass& then);

// Everything but the values of the tensors.
struct CheckpointInfo {
  Config config{};  // the mathematical keys (Key::is_mathematical), with the global batch as
                    // batch_size; the others have their defaults
  CorpusIdentity corpus{};
  Progress progress{};
  ExactClass exact_class{};             // of the last stretch that was run
  ElementType real = ElementType::f32;  // of all tensors

  ModelShape shape() const;
  std::vector<StateInfo> state() const;  // of all global lanes
};

// What a run carries from window to window, for all global lanes, in host memory.
struct HostTensor {
  std::string name;
  Shape shape;
  std::vector<std::byte> values;

  static auto members(auto& self) {
    auto& [name, shape, values] = self;
    return std::tie(name, shape, values);
  }
};
using HostState = std::vector<HostTensor>;
// The tensors of a table, all zeros of this type.
HostState make_host_state(const std::vector<StateInfo>& table, ElementType real);

// The bytes of the whole file, with '0' for each digit of the digest.
struct UnsealedCheckpoint {
  std::vector<std::byte> bytes;
};
// Called between two windows, when training waits; sealed() does the rest and may run beside it.
// `state` has the tensors of info.state(). Waits for the backend. Error 69 if memory does not
// suffice; 76 names a value that is not finite, because such a file could not be read again.
UnsealedCheckpoint checkpoint_image(const CheckpointInfo& info, const HostState& state,
                                    Backend& backend, const Parameters& parameters);
// The file: the bytes with their digest (XXH3-128) in the user block. Calls no HDF5.
std::vector<std::byte> sealed(UnsealedCheckpoint image);
// About how many bytes such a file has.
std::int64_t checkpoint_bytes(const ParameterTable& table, const std::vector<StateInfo>& state,
                              std::size_t real_bytes);

// A checkpoint that was read whole and found good: first its digest, before HDF5 sees a byte; then
// its structure, which HDF5 reads in a child process; then its values.
class CheckpointFile {
 public:
  // Error 74 if it cannot be read; 65 with the reason if it is not a whole and good checkpoint of
  // this format. A folder, FIFO or device is refused unread.
  explicit CheckpointFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const CheckpointInfo& info() const { return info_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(image_.size()); }
  std::span<const std::byte> image() const { return image_; }
  const std::string& digest() const { return digest_; }  // 32 hexadecimal digits

  // Fills the slab, converted to its type, and touches it. The shape must be info().shape() (70).
  void load_parameters(Backend& backend, Parameters& parameters) const;
  // Converted to `real`.
  HostState state(ElementType real) const;

  // Names in the file and shapes of all parameters and states, for tools that go through them.
  struct TensorName {
    std::string name;  // "/parameters/embedding", "/state/lstm/0/c"
    Shape shape;
  };
  const std::vector<TensorName>& tensors() const { return tensors_; }
  std::vector<double> values(const TensorName& tensor) const;

 private:
  // The bytes of tensors_[tensor] in the image.
  std::span<const std::byte> stored(std::size_t tensor) const;
  // The same, converted to `real`. Error 65 names a value that is not finite.
  std::vector<std::byte> bytes_of(std::size_t tensor, ElementType real) const;

  std::filesystem::path path_;
  std::vector<std::byte> image_;
  std::string digest_;
  CheckpointInfo info_;
  std::vector<TensorName> tensors_;
  std::vector<std::int64_t> places_;  // of each of tensors_: its first byte in the image
};

// Throws what CheckpointFile would if the file at `path` cannot be opened; reads nothing.
void check_can_be_opened(const std::filesystem::path& path);
// Whether the file at `path` says that it is a checkpoint (its first bytes); false if unreadable.
bool looks_like_a_checkpoint(const std::filesystem::path& path);

}  // namespace ptb
