// The table of all keys: name, group, unit, meaning, range. Everything else follows from it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/random.hpp"

namespace ptb {
namespace {

constexpr double kAnyWhole = 9223372036854775807.0;  // 2^63 as a double; every int64 is below
constexpr double kMaxTokens = 2147483647;            // token places and ids are 32 bits wide

// clang-format off
const std::vector<Key> kSchema = {
    {.name = "init_scale", .group = "Model", .member = &Config::init_scale, .unit = "",
     .meaning = "weights start uniform in [-init_scale, init_scale]", .low = 0, .high = 100,
     .is_mathematical = true},
    {.name = "cell", .group = "Model", .member = &Config::cell, .unit = "",
     .meaning = "of the recurrent layers: lstm, gru (as torch.nn.GRU) or rnn (tanh)",
     .choices = {"lstm", "gru", "rnn"}, .is_mathematical = true, .is_shape = true,
     .value_before = "lstm"},
    {.name = "num_layers", .group = "Model", .member = &Config::num_layers, .unit = "layers",
     .meaning = "recurrent layers between embedding and softmax", .low = 1,
     .high = kMaxDropoutSites - 1, .is_mathematical = true, .is_shape = true},
    {.name = "num_steps", .group = "Model", .member = &Config::num_steps, .unit = "tokens",
     .meaning = "length of a window, and how far gradients reach back", .low = 1,
     .high = kMaxSteps, .is_mathematical = true, .is_shape = true},
    {.name = "hidden_size", .group = "Model", .member = &Config::hidden_size, .unit = "units",
     .meaning = "width of each recurrent layer and of the embedding", .low = 1, .high = kMaxUnits,
     .is_mathematical = true, .is_shape = true},
    {.name = "vocab_size", .group = "Model", .member = &Config::vocab_size, .unit = "words",
     .meaning = "rows of the embedding; a corpus may have fewer words", .low = 1, .high = 1 << 24,
     .is_mathematical = true, .is_shape = true},
    {.name = "forget_bias", .group = "Model", .member = &Config::forget_bias, .unit = "",
     .meaning = "added to the forget gate of the lstm before its sigmoid", .low = -100, .high = 100,
     .is_mathematical = true},
    {.name = "keep_prob", .group = "Model", .member = &Config::keep_prob, .unit = "",
     .meaning = "probability that dropout keeps a unit; 1: no dropout", .low = 0, .high = 1,
     .low_is_open = true, .is_mathematical = true},

    {.name = "learning_rate", .group = "Schedule", .member = &Config::learning_rate, .unit = "",
     .meaning = "step size in the first max_epoch epochs", .low = 0, .high = 1e12,
     .is_mathematical = true},
    {.name = "lr_decay", .group = "Schedule", .member = &Config::lr_decay, .unit = "",
     .meaning = "the learning rate's factor for each later epoch", .low = 0, .high = 1,
     .low_is_open = true, .is_mathematical = true},
    {.name = "max_epoch", .group = "Schedule", .member = &Config::max_epoch, .unit = "epochs",
     .meaning = "how many epochs have the full learning rate", .low = 0, .high = kMaxEpochs,
     .is_mathematical = true},
    {.name = "max_max_epoch", .group = "Schedule", .member = &Config::max_max_epoch,
     .unit = "epochs", .meaning = "length of the run", .low = 0, .high = kMaxEpochs,
     .alias = "--epochs"},
    {.name = "max_grad_norm", .group = "Schedule", .member = &Config::max_grad_norm, .unit = "",
     .meaning = "the gradient is scaled down to this norm, over all parameters", .low = 0,
     .high = 1e12, .low_is_open = true, .is_mathematical = true},
    {.name = "batch_size", .group = "Schedule", .member = &Config::batch_size, .unit = "lanes",
     .meaning = "parallel lanes through the text, of all ranks together (strong scaling) or of "
                "each rank (weak)",
     .low = 1, .high = kMaxLanes, .is_mathematical = true, .is_shape = true},
    {.name = "lane_groups", .group = "Schedule", .member = &Config::lane_groups, .unit = "groups",
     .meaning = "parts in which the batch is computed; the sum has the same bits on every number "
                "of ranks that is a power of two and divides it; 0: one part for each rank",
     .low = 0, .high = kMaxLanes, .is_mathematical = true},
    {.name = "seed", .group = "Schedule", .member = &Config::seed, .unit = "",
     .meaning = "of the random initial weights and of dropout", .low = 0, .high = kAnyWhole,
     .is_mathematical = true},

    {.name = "data", .group = "Data", .member = &Config::data, .unit = "",
     .meaning = "folder with ptb.{train,valid,test}.txt, or \"synthetic\" for the built-in corpus; "
                "empty: $PTB_DATA, then data/ptb"},
    {.name = "eval_lanes", .group = "Data", .member = &Config::eval_lanes, .unit = "lanes",
     .meaning = "lanes through the validation text, for any batch size", .low = 1,
     .high = kMaxLanes, .is_mathematical = true},
    {.name = "synthetic_tokens", .group = "Data", .member = &Config::synthetic_tokens,
     .unit = "tokens", .meaning = "size of the built-in corpus's training split", .low = 100,
     .high = kMaxTokens},
    {.name = "synthetic_vocab", .group = "Data", .member = &Config::synthetic_vocab,
     .unit = "words", .meaning = "vocabulary of the built-in corpus", .low = 10, .high = 1 << 24},
    {.name = "init_from", .group = "Data", .member = &Config::init_from, .unit = "",
     .meaning = "HDF5 file with the parameters to start from; empty: random ones"},

    {.name = "scaling", .group = "Execution", .member = &Config::scaling, .unit = "",
     .meaning = "strong: batch_size lanes are dealt to the ranks; weak: each rank has batch_size",
     .choices = {"strong", "weak"}},
    {.name = "backend", .group = "Execution", .member = &Config::backend, .unit = "",
     .meaning = "where the model runs; auto: the fastest that is available",
     .choices = {"auto", "cpu", "cuda"}},
    {.name = "precision", .group = "Execution", .member = &Config::precision, .unit = "",
     .meaning = "of matrix products; auto: tf32 on a GPU, fp32 on a CPU; bf16 on a CPU needs AMX "
                "or AVX512_BF16",
     .choices = {"auto", "fp32", "tf32", "bf16"}},
    {.name = "comm", .group = "Execution", .member = &Config::comm, .unit = "",
     .meaning = "how ranks add up gradients; auto: the fastest that is available",
     .choices = {"auto", "mpi", "nccl", "single"}},
    {.name = "threads", .group = "Execution", .member = &Config::threads, .unit = "threads",
     .meaning = "in each rank; 0: an equal share of the host's cores", .low = 0, .high = 4096},
    {.name = "timeout", .group = "Execution", .member = &Config::timeout, .unit = "seconds",
     .meaning = "how long a rank waits for another before the run ends with an error", .low = 0,
     .high = 1e7, .low_is_open = true},

    {.name = "run_dir", .group = "Output", .member = &Config::run_dir, .unit = "",
     .meaning = "folder for checkpoints, config.toml, log.txt and metrics.jsonl; empty: "
                "runs/<config>-<date>-<time>"},
    {.name = "metrics_windows", .group = "Output", .member = &Config::metrics_windows,
     .unit = "windows", .meaning = "from one record in metrics.jsonl to the next", .low = 1,
     .high = kMaxTokens},
    {.name = "progress", .group = "Output", .member = &Config::progress, .unit = "",
     .meaning = "what standard output shows during an epoch: a bar below the lines (auto: at a "
                "terminal, under a local mpirun, too), lines, or nothing (off)",
     .choices = {"auto", "bar", "lines", "off"}},
    {.name = "save_parameters", .group = "Output", .member = &Config::save_parameters, .unit = "",
     .meaning = "HDF5 file for the parameters at the end; empty: none"},
    {.name = "checkpoint_minutes", .group = "Output", .member = &Config::checkpoint_minutes,
     .unit = "minutes", .meaning = "from one checkpoint to the next, besides that of every epoch; "
                                   "0: only that of every epoch", .low = 0, .high = 1e6},
    {.name = "checkpoint_windows", .group = "Output", .member = &Config::checkpoint_windows,
     .unit = "windows", .meaning = "from one checkpoint to the next, besides that of every epoch; "
                                   "0: only that of every epoch", .low = 0, .high = kMaxTokens},
    {.name = "keep_checkpoints", .group = "Output", .member = &Config::keep_checkpoints,
     .unit = "files", .meaning = "how many of the newest checkpoints stay, besides the best; 0: "
                                 "none is written, and the run cannot be resumed", .low = 0,
     .high = kMaxTokens},
};
// clang-format on

// In TOML a decimal number has a point or an exponent, but "{}" writes 1.0 as "1".
std::string as_toml(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string as_toml(std::int64_t value) { return fmt::format("{}", value); }

std::string as_toml(const std::string& value) {
  std::string text = "\"";
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    const auto byte = static_cast<unsigned char>(c);
    const auto next = static_cast<unsigned char>(i + 1 < value.size() ? value[i + 1] : 0);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\u{:04x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F: for terminals
      text += fmt::format("\\u{:04x}", next);
      ++i;
    } else {
      text += c;
    }
  }
  return text + "\"";
}

std::int64_t whole(double bound) {
  return bound >= kAnyWhole ? std::numeric_limits<std::int64_t>::max()
                            : static_cast<std::int64_t>(bound);
}

}  // namespace

const std::vector<Key>& config_schema() { return kSchema; }

std::string Key::flag() const {
  std::string text = "--" + name;
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

std::string Key::allowed() const {
  if (!choices.empty()) return fmt::format("one of {}", fmt::join(choices, ", "));
  if (std::holds_alternative<std::string Config::*>(member)) return "a text";
  if (std::holds_alternative<std::int64_t Config::*>(member)) {
    return fmt::format("an integer from {} to {}", whole(low), whole(high));
  }
  return low_is_open ? fmt::format("a number above {:g}, up to {:g}", low, high)
                     : fmt::format("a number from {:g} to {:g}", low, high);
}

Config mathematical(const Config& config) {
  Config result;
  for (const Key& key : kSchema) {
    if (!key.is_mathematical) continue;
    copy_value(config, key, result);
  }
  return result;
}

void copy_value(const Config& from, const Key& key, Config& to) {
  std::visit([&](const auto& member) { to.*member = from.*member; }, key.member);
}

Key::Value value_of(const Config& config, const Key& key) {
  return with_value(config, key, [](const auto& value) { return Key::Value(value); });
}

std::string toml_value(const Config& config, const Key& key) {
  return with_value(config, key, [](const auto& value) { return as_toml(value); });
}

}  // namespace ptb
