#include "ptb_dist/run/inputs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <span>

#include "ptb_dist/base/version.hpp"
#include "ptb_dist/run/checkpoint_fit.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSynthetic = "synthetic";

// As read_corpus, whose errors name the folder; adds where that name came from.
Corpus read_chosen_corpus(const CorpusPlace& chosen, int vocab_size) {
  try {
    return read_corpus(chosen.place, vocab_size);
  } catch (const Error& error) {
    if (!chosen.is_from_environment) throw;
    throw Error(error.code(), Complaint{.what = "$PTB_DATA", .why = error.lines().front()});
  }
}

// What ranks but root must know of the command line.
struct ToldLine {
  CommandLine::Action action = CommandLine::Action::train;
  std::optional<std::int64_t> max_windows{};
  std::vector<Fault> faults{};
  std::string split{};
  std::string config_name{};
  std::string values{};  // of the configuration, as TOML

  static auto members(auto& self) {
    auto& [action, max_windows, faults, split, config_name, values] = self;
    return std::tie(action, max_windows, faults, split, config_name, values);
  }
};

}  // namespace

void require_same_build(Session& session) {
  require_same(session, "build", fmt::format("{} ({}), {}", kVersion, git_revision(), compiler()));
  require_same(session, "MPI library", Session::library_version());
}

CommandLine agreed_command_line(Session& session, const std::vector<std::string>& arguments) {
  CommandLine line;
  session.on_root([&] {
    line = parse_command_line(arguments,
                              fmt::format("ptb_dist {}\n{}\n", kVersion, build_information()));
  });
  ToldLine told{.action = line.action,
                .max_windows = line.max_windows,
                .faults = line.faults,
                .split = line.split,
                .config_name = line.config.name,
                .values = to_toml(line.config)};
  session.broadcast(told);
  if (session.is_root()) return line;
  line.action = told.action;
  line.max_windows = told.max_windows;
  line.faults = told.faults;
  line.split = told.split;
  line.config = config_from_toml(told.values, told.config_name, "the configuration of rank 0");
  return line;
}

CorpusPlace corpus_place(const Config& config) {
  if (!config.data.empty()) return {.place = config.data};
  if (const char* folder = std::getenv("PTB_DATA"); folder != nullptr && *folder != '\0') {
    return {.place = folder, .is_from_environment = true};
  }
  if (fs::exists("data/ptb")) return {.place = "data/ptb"};
  throw Error(ExitCode::bad_data,
              {.what = "no corpus",
               .where = "--data, $PTB_DATA and data/ptb",
               .why = "none of them exists",
               .remedy = "run launch/get_ptb.sh, or give --data DIR or --data synthetic"});
}

Corpus agreed_corpus(Session& session, const Config& config, ExcessWords excess) {
  Corpus corpus;
  session.on_root([&] {
    const CorpusPlace chosen = corpus_place(config);
    const auto vocab_size = static_cast<int>(config.vocab_size);
    const int most =
        excess == ExcessWords::keep ? std::max(vocab_size, kMaxCountedWords) : vocab_size;
    corpus = chosen.place == kSynthetic ? synthetic_corpus(config.synthetic_tokens,
                                                           static_cast<int>(config.synthetic_vocab))
                                        : read_chosen_corpus(chosen, most);
    if (excess == ExcessWords::refuse) check_words_fit(corpus, config);
  });
  for (auto& tokens : corpus.tokens) session.broadcast(tokens);
  session.broadcast(corpus.perplexity_bound);
  return corpus;
}

void check_words_fit(const Corpus& corpus, const Config& config) {
  if (std::ssize(corpus.words) <= config.vocab_size) return;
  if (!config.init_from.empty() && looks_like_a_checkpoint(config.init_from)) {
    check_model(CheckpointFile(config.init_from), config, corpus);
  }
  const bool is_synthetic = corpus.perplexity_bound.has_value();
  if (!is_synthetic) {
    check_vocabulary_size(corpus.source, corpus.words.size(), static_cast<int>(config.vocab_size));
  }
  throw Error(ExitCode::usage,
              {.what = "the vocabulary does not fit",
               .where = fmt::format("vocab_size = {}", config.vocab_size),
               .why = fmt::format("the synthetic corpus has {} words", corpus.words.size()),
               .remedy = fmt::format("give --vocab-size {} or --synthetic-vocab {}",
                                     corpus.words.size(), config.vocab_size)});
}

ResolvedConfig repeatable(const ResolvedConfig& config) {
  ResolvedConfig result = config;
  Config& values = result.values;
  values.run_dir.clear();
  values.progress = Config{}.progress;  // a matter of the terminal, not of the run
  values.data = corpus_place(values).place;
  if (values.data != kSynthetic) values.data = fs::absolute(values.data);
  if (!values.init_from.empty()) values.init_from = fs::absolute(values.init_from);
  return result;
}

}  // namespace ptb
