// One HDF5 file that holds a run: parameters, LSTM state, where it is, what it is a run of.
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

// Where a run is. An epoch is over when its validation is: then `epoch` is raised and `window` 0.
struct Progress {
  int epoch = 0;             // the one in hand, from 0
  int window = 0;            // windows of it that are done
  std::int64_t step = 0;     // windows of the run that are done
  double cross_entropy = 0;  // over global lanes, summed over the windows of this epoch, in nats
  std::vector<EpochResult> history{};  // of the epochs that are over; `epoch` entries

  // The epoch with the lowest validation perplexity, the first of equals; -1 before any is over.
  int best_epoch() const;
  static auto members(auto& self) {
    auto& [epoch, window, step, cross_entropy, history] = self;
    return std::tie(epoch, window, step, cross_entropy, history);
  }
  bool operator==(const Progress&) const = default;
};

// What the text is, so that a run is not continued on another.
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
  Config config{};  // the mathematical keys (Key::is_mathematical), batch_size being the global
                    // batch; the others have their defaults
  CorpusIdentity corpus{};
  Progress progress{};
  ExactClass exact_class{};             // of the stretch that was run last
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

// The whole file as bytes, except that the digest's digits are '0'.
struct UnsealedCheckpoint {
  std::vector<std::byte> bytes;
};
// Between two windows; what remains to be done may take its time (sealed). `state` has the tensors
// of info.state(). Waits for the backend. Error 69 if memory does not suffice; 76 names a value
// that is not finite, which could not be read again.
UnsealedCheckpoint checkpoint_image(const CheckpointInfo& info, const HostState& state,
                                    Backend& backend, const Parameters& parameters);
// With the digest of all bytes (XXH3-128) in the user block: the file. Touches no HDF5.
std::vector<std::byte> sealed(UnsealedCheckpoint image);
// Bytes of such a file, about.
std::int64_t checkpoint_bytes(const ParameterTable& table, const std::vector<StateInfo>& state,
                              std::size_t real_bytes);

// A file that was read as a whole and found good: its digest before HDF5 saw a byte, then its
// structure, which a child process has HDF5 look at, then its values.
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

  // Into the slab, converted to its type; touches. The shape must be info().shape() (70).
  void load_parameters(Backend& backend, Parameters& parameters) const;
  // Converted to `real`.
  HostState state(ElementType real) const;

  // Parameters and state by their names in the file, with shapes, for tools that look at all.
  struct TensorName {
    std::string name;  // "/parameters/embedding", "/state/lstm/0/c"
    Shape shape;
  };
  const std::vector<TensorName>& tensors() const { return tensors_; }
  std::vector<double> values(const TensorName& tensor) const;

 private:
  // Of tensors_[tensor], as they lie in the image.
  std::span<const std::byte> stored(std::size_t tensor) const;
  // The same, converted to `real`. Error 65 names a value that is not finite.
  std::vector<std::byte> bytes_of(std::size_t tensor, ElementType real) const;

  std::filesystem::path path_;
  std::vector<std::byte> image_;
  std::string digest_;
  CheckpointInfo info_;
  std::vector<TensorName> tensors_;
  std::vector<std::int64_t> places_;  // of tensors_, in bytes of the image
};

// Throws what CheckpointFile would if the file at `path` cannot be opened; reads nothing.
void check_can_be_opened(const std::filesystem::path& path);
// Whether the file at `path` says that it is a checkpoint (its first bytes); false if unreadable.
bool looks_like_a_checkpoint(const std::filesystem::path& path);

}  // namespace ptb
