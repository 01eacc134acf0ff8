// ptb_dist eval: the perplexity of a checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "commands/commands.hpp"
#include "ptb_dist/base/stopwatch.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/run/checkpoint_fit.hpp"
#include "ptb_dist/run/header.hpp"
#include "ptb_dist/run/inputs.hpp"
#include "ptb_dist/run/starting_parameters.hpp"
#include "ptb_dist/train/evaluator.hpp"

namespace ptb {
namespace {

// The configuration with the checkpoint's mathematical keys; a user may set another eval_lanes.
Config combined(const CheckpointFile& file, const ResolvedConfig& given) {
  Config config = given.values;
  std::vector<Complaint> complaints;
  for (const Key& key : config_schema()) {
    const auto origin = std::ranges::find(given.origins, key.name, &Origin::key);
    const bool is_given = origin != given.origins.end() && origin->from == "flag";
    if (!key.is_mathematical || (is_given && key.name == "eval_lanes")) continue;
    if (is_given && toml_value(given.values, key) != toml_value(file.info().config, key)) {
      complaints.push_back(
          {.what = key.flag(),
           .why = fmt::format("the checkpoint has {}", toml_value(file.info().config, key)),
           .remedy = "omit it: a model is evaluated as it was trained"});
    }
    copy_value(file.info().config, key, config);
  }
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
  return config;
}

}  // namespace

int eval_command(Session& session, const CommandLine& line, const Factories& factories) {
  // 1. The checkpoint, and the configuration that it implies.
  std::optional<CheckpointFile> file;
  std::string values;
  session.on_root([&] {
    file.emplace(line.checkpoint);
    ResolvedConfig config = line.config;
    config.values = combined(*file, line.config);
    values = to_toml(config);
  });
  session.broadcast(values);
  const Config config = config_from_toml(values, "eval", "the configuration of rank 0").values;

  // 2. The machine, the text, the model.
  const Machine machine = make_machine(session, config, factories);
  const Corpus corpus = agreed_corpus(session, config, ExcessWords::keep);
  session.on_root([&] {
    check_vocabulary(*file, corpus.words, corpus.source);
    for (const std::string& text : corpus_warnings(corpus)) print_line("warning: " + text);
  });
  const ModelShape shape = shape_of(config);
  const bool is_test = line.split == "test";
  std::optional<Parameters> parameters;
  std::optional<LanguageModel> model;
  std::optional<Lanes> lanes;
  std::optional<Evaluator> evaluator;
  session.on_every_rank([&] {
    parameters.emplace(*machine.backend, shape);
    model.emplace(*machine.backend, *parameters);
    lanes.emplace(is_test
                      ? test_lanes(corpus)
                      : valid_lanes(corpus, config, {.split = "valid", .lanes = "--eval-lanes"}));
    evaluator.emplace(
        EvaluatorParts{.backend = *machine.backend,
                       .model = *model,
                       .communicator = *machine.communicator,
                       .shape = shape,
                       .groups = std::max(static_cast<int>(config.lane_groups), session.size()),
                       .rank = session.rank(),
                       .ranks = session.size()},
        *lanes, is_test ? Evaluator::Sharing::positions : Evaluator::Sharing::lanes,
        is_test ? "test" : "valid");
  });
  set_parameters(session, file, *machine.backend, *parameters);

  // 3. Its perplexity.
  const Stopwatch watch;
  const std::optional<Perplexity> perplexity = evaluator->run();
  const double seconds = watch.seconds();
  require(perplexity.has_value(), "signals are not caught where nothing is trained");
  session.on_root([&] {
    for (const std::string& text : machine.warnings) print_line(fmt::format("warning: {}", text));
    const Progress& progress = file->info().progress;
    print_line(fmt::format("Checkpoint: {}, epoch {}, window {}, step {}", file->path().string(),
                           progress.epoch + 1, progress.window, progress.step));
    print_line(perplexity_line(*perplexity, seconds));
  });
  return 0;
}

}  // namespace ptb
