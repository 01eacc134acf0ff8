// Everything that a user can set, in one table that feeds files, flags, --help, the echo in the log
// and checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ptb {

// Lanes of a batch, at most, over all ranks.
inline constexpr std::int64_t kMaxLanes = 1 << 20;

// Values after flag > file > default. Keys have these names; flags have dashes for underscores.
struct Config {
  // Model and schedule: the table of Zaremba et al. (2014). Defaults are those of "small".
  std::string cell = "lstm";  // lstm | gru | rnn
  double init_scale = 0.1;
  double learning_rate = 1.0;
  double max_grad_norm = 5.0;
  std::int64_t num_layers = 2;
  std::int64_t num_steps = 20;
  std::int64_t hidden_size = 200;
  std::int64_t max_epoch = 4;
  std::int64_t max_max_epoch = 13;
  double keep_prob = 1.0;
  double lr_decay = 0.5;
  std::int64_t batch_size = 20;
  std::int64_t vocab_size = 10'000;
  double forget_bias = 0.0;
  std::int64_t seed = 1;
  std::int64_t eval_lanes = 20;
  std::int64_t lane_groups = 0;  // 0: one for each rank

  // Where the numbers come from.
  std::string data{};  // a folder or "synthetic"; empty: $PTB_DATA, then data/ptb
  std::int64_t synthetic_tokens = 929'589;
  std::int64_t synthetic_vocab = 10'000;
  std::string init_from{};  // HDF5 file of parameters

  // How it runs.
  std::string scaling = "strong";  // strong | weak
  std::string backend = "auto";    // auto | cpu | cuda
  std::string precision = "auto";  // auto | fp32 | tf32 | bf16
  std::string comm = "auto";       // auto | mpi | nccl | single
  std::int64_t threads = 0;        // per rank; 0: an equal share of the host's cores
  double timeout = 300.0;          // seconds a rank waits for another

  // What it writes.
  std::string run_dir{};  // empty: runs/<config>-<date>-<time>
  std::int64_t metrics_windows = 10;
  std::string progress = "auto";        // auto | bar | lines | off
  std::string save_parameters{};        // HDF5 file, at the end
  double checkpoint_minutes = 10.0;     // 0: only after each epoch
  std::int64_t checkpoint_windows = 0;  // 0: only after each epoch
  std::int64_t keep_checkpoints = 3;

  bool operator==(const Config&) const = default;
};

// One row of the table.
struct Key {
  using Member = std::variant<double Config::*, std::int64_t Config::*, std::string Config::*>;
  using Value = std::variant<double, std::int64_t, std::string>;

  std::string name;   // as in a file
  std::string group;  // heading in --help
  Member member;
  std::string unit;     // "epochs", "bytes", ...; may be empty
  std::string meaning;  // one line
  double low = 0;       // numbers: inclusive range
  double high = 0;
  bool low_is_open = false;            // low itself is not allowed
  std::vector<std::string> choices{};  // texts: allowed values; empty: any
  std::string alias{};                 // a second flag ("--epochs")
  // Whether the numbers of a run depend on it. Such a key is kept in checkpoints and must be equal
  // when a run resumes.
  bool is_mathematical = false;
  // Whether it is mathematical and decides shapes in a checkpoint or the place in the text.
  bool is_shape = false;
  // For a mathematical key that is newer than the first checkpoints: the value that gives the old
  // behaviour. A checkpoint without the key has this value, and a key with this value is not
  // written, so that a run with old settings keeps its bytes. Empty: every checkpoint has the key.
  std::optional<Value> value_before{};

  std::string flag() const;     // "--max-grad-norm"
  std::string allowed() const;  // "an integer from 1 to 255"
};
const std::vector<Key>& config_schema();

// Calls use() with the key's member of `config`: a double, an integer or a text. Code that treats
// the three types alike uses this or copy_value.
template <class AnyConfig, class Use>
decltype(auto) with_value(AnyConfig& config, const Key& key, const Use& use) {
  return std::visit([&](const auto& member) -> decltype(auto) { return use(config.*member); },
                    key.member);
}
void copy_value(const Config& from, const Key& key, Config& to);
Key::Value value_of(const Config& config, const Key& key);
// Why the key may not have this value of its type ("out of range"); empty if it may.
std::string why_not_allowed(const Key& key, const Key::Value& value);
// For messages: 0.1, 20, "small".
std::string shown(const Key::Value& value);
// The value of a key as TOML writes it: 0.1, 20, "small". Doubles come back exactly.
std::string toml_value(const Config& config, const Key& key);

// The mathematical keys of `config`; all others have their defaults.
Config mathematical(const Config& config);

// Where a value came from that is not the built-in default, for the log's header.
struct Origin {
  std::string key{};
  std::string from{};  // "flag", or the file's name
};

struct ResolvedConfig {
  std::string name{};  // "small", or the stem of the file
  Config values{};
  std::vector<Origin> origins{};  // keys that the file or a flag set, in the schema's order
  std::string file{};             // of a user's own configuration, as given; empty: a shipped one
};

// Reads NAME from the folder of shipped configurations, or a TOML file (a name that ends in .toml
// or has a slash), over the defaults. `overrides` are (key, text) pairs from the command line,
// applied last; keys must be the schema's. Error 2 with all complaints at once, each with file and
// line, or the flag: unknown key (and the nearest one), wrong type, out of range, duplicate key.
ResolvedConfig resolve_config(const std::string& name_or_file,
                              std::span<const std::pair<std::string, std::string>> overrides);
// TOML text that resolve_config reads back to the same values.
std::string to_toml(const ResolvedConfig& config);
// Reads such a text; `source` names it in messages.
ResolvedConfig config_from_toml(const std::string& text, const std::string& name,
                                const std::string& source);
// The folder of shipped configurations: beside the program in an install, else of the source tree.
std::filesystem::path configs_folder();

}  // namespace ptb
