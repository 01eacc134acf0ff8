#include "ptb_dist/train/restart.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "ptb_dist/base/numerics.hpp"
#include "ptb_dist/base/version.hpp"
#include "ptb_dist/io/run_directory.hpp"
#include "ptb_dist/train/lane_groups.hpp"
#include "ptb_dist/train/setup.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

bool is_named(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// A mathematical key of which checkpoint and run have different values. In weak scaling batch_size
// is of a rank: the run takes the checkpoint's global batch.
bool differs(const Key& key, const Config& then, const Config& now) {
  const bool is_free = !key.is_mathematical || (key.name == "batch_size" && now.scaling == "weak");
  return !is_free && toml_value(then, key) != toml_value(now, key);
}

void check_configuration(const CheckpointFile& file, const CommandLine& line) {
  const Config& then = file.info().config;
  const Config& now = line.config.values;
  std::vector<Complaint> complaints;
  for (const Key& key : config_schema()) {
    if (!differs(key, then, now) || is_named(line.overridden, key.name)) continue;
    const std::string value = toml_value(then, key);
    complaints.push_back(
        {.what = key.name,
         .where = file.path().string(),
         .why = fmt::format("the checkpoint has {}, this run {}", value, toml_value(now, key)),
         .remedy = key.is_shape ? fmt::format("give {} {}", key.flag(), value)
                                : fmt::format("give {} {}, or allow it with --override {}",
                                              key.flag(), value, key.name)});
  }
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
}

// Of the keys that may differ, those that do.
std::vector<std::string> changed_keys(const CheckpointFile& file, const CommandLine& line,
                                      bool is_other_text) {
  std::vector<std::string> changed;
  for (const Key& key : config_schema()) {
    if (differs(key, file.info().config, line.config.values)) changed.push_back(key.name);
  }
  if (is_other_text) changed.emplace_back("data");
  return changed;
}

// How to give the corpus of a checkpoint. The sizes of a synthetic one are not in it, but its text
// can be made again and compared.
std::string remedy_for_corpus(const CheckpointFile& file) {
  const CorpusIdentity& then = file.info().corpus;
  const int least = least_synthetic_vocab(then.words);
  if (least == 0) return "give the corpus that it was trained on with --data";
  const std::int64_t tokens = then.tokens[0];
  const auto vocab_size = static_cast<int>(file.info().config.vocab_size);
  for (const int words : {static_cast<int>(Config{}.synthetic_vocab), vocab_size, least}) {
    if (words < least || tokens < 100) continue;
    if (identity_of(synthetic_corpus(tokens, words)) != then) continue;
    return fmt::format(
        "it is of the synthetic corpus: give --data synthetic --synthetic-tokens {} "
        "--synthetic-vocab {}",
        tokens, words);
  }
  return fmt::format(
      "it seems to be of a synthetic corpus: give --data synthetic --synthetic-tokens {} and the "
      "--synthetic-vocab of that run, {} or more",
      tokens, least);
}

Error other_corpus(const CheckpointFile& file, const std::string& why, const std::string& remedy) {
  return {ExitCode::bad_data,
          {.what = "the checkpoint is of another corpus",
           .where = file.path().string(),
           .why = why,
           .remedy = remedy}};
}

void check_corpus(const CheckpointFile& file, const RunIdentity& run, const CommandLine& line) {
  check_vocabulary(file, run.corpus.words, run.corpus_source);
  if (is_named(line.overridden, "data")) return;
  const CorpusIdentity& then = file.info().corpus;
  const CorpusIdentity& now = run.corpus;
  for (std::size_t s = 0; s < kSplitNames.size(); ++s) {
    if (then.tokens[s] == now.tokens[s] && then.digests[s] == now.digests[s]) continue;
    throw other_corpus(
        file,
        fmt::format("its {} text has {} tokens with digest {}, that of {} has {} with {}",
                    kSplitNames[s], then.tokens[s], then.digests[s], run.corpus_source,
                    now.tokens[s], now.digests[s]),
        remedy_for_corpus(file) + ", or allow it with --override data");
  }
}

// A fresh start would overwrite it.
void check_nothing_is_left(const CheckpointFolder& folder) {
  std::error_code failure;
  if (!fs::exists(folder.best(), failure)) return;
  throw Error(ExitCode::bad_data,
              {.what = "no checkpoint to go on from but the best",
               .where = folder.best().string(),
               .why = "the newer ones are gone",
               .remedy = fmt::format("go on from it with --resume {}, or begin anew with --fresh",
                                     folder.best().string())});
}

// The newest that is good. Those before it are told as warnings; if there is no other, they are the
// error.
std::optional<CheckpointFile> newest_good(const CheckpointFolder& folder,
                                          std::vector<std::string>& warnings) {
  std::vector<Complaint> complaints;
  std::optional<CheckpointFile> found;
  for (const StoredCheckpoint& stored : folder.list()) {
    try {
      found.emplace(stored.path);
      break;
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data && error.code() != ExitCode::io) throw;
      for (const std::string& text : error.lines()) complaints.push_back({.what = text});
    }
  }
  if (!found && complaints.empty()) check_nothing_is_left(folder);
  if (!found && !complaints.empty()) {
    complaints.push_back({.what = "no usable checkpoint",
                          .where = folder.path().string(),
                          .why = "every one of them is bad, see above",
                          .remedy = "bring one back from a copy, or begin anew with --fresh"});
    throw Error(ExitCode::bad_data, std::move(complaints));
  }
  for (const Complaint& complaint : complaints) {
    warnings.push_back(
        fmt::format("{}; going on from {} instead", complaint.line(), found->path().string()));
  }
  return found;
}

// A file of another run would leave this run directory with the records of two.
void check_is_of(const std::string& resume, const fs::path& directory) {
  std::error_code failure;
  if (directory.empty() || !RunDirectory::holds_a_run(directory)) return;
  const fs::path folder = fs::weakly_canonical(fs::path(resume).parent_path(), failure);
  const fs::path own =
      fs::weakly_canonical(RunDirectory::checkpoints_of(directory).path(), failure);
  if (folder == own || folder.parent_path() == own) return;  // it may have been set aside
  throw Error(ExitCode::usage,
              {.what = "--resume",
               .where = resume,
               .why = fmt::format("it is not of the run that {} holds", directory.string()),
               .remedy = "give another --run-dir, or one of its own checkpoints"});
}

// How what follows compares with a run that was not interrupted.
std::string how_exactly(const CheckpointFile& file, const CommandLine& line,
                        const RunIdentity& run) {
  const std::vector<std::string> changed =
      changed_keys(file, line, file.info().corpus != run.corpus);
  if (!changed.empty()) {
    return fmt::format(
        "Resumed with settings that differ from the checkpoint's ({}): the result will not be that "
        "of the original run",
        fmt::join(changed, ", "));
  }
  const std::string difference = differences(run.exact_class, file.info().exact_class);
  if (difference.empty()) return "Resumed exactly, bit for bit what an undisturbed run does";
  return fmt::format("Resumed equal to an undisturbed run up to rounding, since this one has {}",
                     escaped(difference, 2000));
}

Restart judged(std::optional<CheckpointFile> file, const CommandLine& line,
               const RunIdentity& run) {
  check_configuration(*file, line);
  check_corpus(*file, run, line);
  Restart restart{.progress = file->info().progress,
                  .state = file->state(run.real),
                  .global_lanes = static_cast<int>(file->info().config.batch_size),
                  .is_other_text = file->info().corpus != run.corpus};
  restart.remarks.push_back(fmt::format("Resumed from {}: epoch {}, window {}, step {}",
                                        file->path().string(), restart.progress.epoch + 1,
                                        restart.progress.window, restart.progress.step));
  restart.remarks.push_back(how_exactly(*file, line, run));
  restart.file = std::move(file);
  return restart;
}

// To every rank.
void broadcast(Session& session, Progress& progress) {
  struct Members {  // a member that is forgotten below makes it another size
    int epoch, window;
    std::int64_t step;
    double cross_entropy;
    std::vector<EpochResult> history;
  };
  static_assert(sizeof(Progress) == sizeof(Members));
  broadcast_value(session, progress.epoch);
  broadcast_value(session, progress.window);
  broadcast_value(session, progress.step);
  broadcast_value(session, progress.cross_entropy);
  broadcast_values(session, progress.history);
}

void broadcast(Session& session, HostState& state) {
  std::size_t count = state.size();
  broadcast_value(session, count);
  state.resize(count);
  for (auto& [name, shape, values] : state) {
    session.broadcast(name);
    broadcast_value(session, shape);
    broadcast_values(session, values);
  }
}

}  // namespace

ExactClass exact_class_of(Session& session, const JobClass& job) {
  const std::vector<std::string> all =
      session.gather(fmt::format("{} {}", session.host(), job.threads));
  std::vector<std::string> hosts;
  std::vector<int> ranks_of_host;
  std::vector<std::string> threads_of_rank;
  for (const std::string& one : all) {
    const std::size_t space = one.rfind(' ');
    const std::string host = one.substr(0, space);
    threads_of_rank.push_back(one.substr(space + 1));
    if (hosts.empty() || hosts.back() != host) {
      hosts.push_back(host);
      ranks_of_host.push_back(0);
    }
    ++ranks_of_host.back();
  }
  const auto [first, last] = std::ranges::unique(threads_of_rank);
  if (first - threads_of_rank.begin() == 1) threads_of_rank.resize(1);
  const bool is_any = job.lane_groups > 0 && is_subtree_each(job.lane_groups, session.size());
  const std::string any = fmt::format("any of {} lane groups", job.lane_groups);
  return {{"program", fmt::format("ptb_dist {}", kVersion)},
          {kNumericsMember, std::to_string(kNumerics)},
          {"ranks", is_any ? any : std::to_string(session.size())},
          {"ranks per host", is_any ? any : fmt::format("{}", fmt::join(ranks_of_host, ","))},
          {"threads", fmt::format("{}", fmt::join(threads_of_rank, ","))},
          {"backend", job.backend},
          {"all-reduce", is_any ? "along a tree" : job.communicator},
          {"MPI library", Session::library_version()}};
}

void check_vocabulary(const CheckpointFile& file, const std::vector<std::string>& now,
                      const std::string& source) {
  const std::vector<std::string>& then = file.info().corpus.words;
  if (then == now) return;
  const auto id = static_cast<std::size_t>(std::ranges::mismatch(then, now).in1 - then.begin());
  const auto word = [id](const std::vector<std::string>& words) {
    return id < words.size() ? '"' + escaped(words[id]) + '"' : std::string("none");
  };
  throw other_corpus(file,
                     fmt::format("word {} of its {} is {}, of the {} in {} it is {}", id,
                                 then.size(), word(then), now.size(), source, word(now)),
                     remedy_for_corpus(file));
}

void check_resume_is_there(Session& session, const CommandLine& line) {
  session.on_root([&] {
    if (!line.resume.empty() && line.resume != "auto") check_can_be_opened(line.resume);
  });
}

std::optional<Restart> find_restart(Session& session, const CommandLine& line,
                                    const RunIdentity& run) {
  std::optional<Restart> restart;
  session.on_root([&] {
    if (line.resume.empty()) return;
    std::vector<std::string> warnings;
    std::optional<CheckpointFile> file;
    const fs::path directory = line.config.values.run_dir;
    if (line.resume == "auto") {
      file = newest_good(RunDirectory::checkpoints_of(directory), warnings);
    } else {
      check_is_of(line.resume, directory);
      file.emplace(line.resume);
    }
    if (!file) return;
    restart = judged(std::move(file), line, run);
    restart->warnings = std::move(warnings);
  });
  bool is_there = restart.has_value();
  broadcast_value(session, is_there);
  if (!is_there) return std::nullopt;
  if (!restart) restart.emplace();
  broadcast(session, restart->progress);
  broadcast_value(session, restart->global_lanes);
  broadcast_value(session, restart->is_other_text);
  broadcast(session, restart->state);
  return restart;
}

void check_place(const Progress& progress, const Plan& plan, bool is_other_text) {
  const auto refuse = [](ExitCode code, const std::string& why, const std::string& remedy) {
    throw AgreedError(
        code, {.what = "the checkpoint does not fit this run", .why = why, .remedy = remedy});
  };
  const bool is_beyond =
      progress.epoch > plan.epochs || (progress.epoch == plan.epochs && progress.window > 0);
  if (is_beyond) {
    refuse(ExitCode::usage,
           fmt::format("it lies in epoch {}, beyond the last one, {}", progress.epoch + 1,
                       plan.epochs),
           "raise --epochs");
  }
  const std::int64_t step = std::int64_t{progress.epoch} * plan.windows_per_epoch + progress.window;
  if (progress.window > plan.windows_per_epoch || (step != progress.step && !is_other_text)) {
    refuse(ExitCode::bad_data,
           fmt::format("it says epoch {}, window {}, step {}; an epoch has {} windows here",
                       progress.epoch + 1, progress.window, progress.step, plan.windows_per_epoch),
           "give the checkpoint of a run on this text");
  }
}

void load_parameters(Session& session, const std::optional<CheckpointFile>& file, Backend& backend,
                     Parameters& parameters) {
  session.on_root([&] { file->load_parameters(backend, parameters); });
  share_parameters(session, backend, parameters);
}

}  // namespace ptb
