#include "ptb_dist/train/plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/train/evaluator.hpp"

namespace ptb {
namespace {

// Lanes of a rank below which more ranks hardly help.
constexpr int kFewLanes = 8;

// "1.5 MB": decimal units, as for messages on a wire.
std::string bytes_text(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e6) return fmt::format("{:.1f} kB", value / 1e3);
  if (value < 1e9) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.2f} GB", value / 1e9);
}

// Elements of a workspace (model/language_model): activations of `positions` positions and the
// logits of `softmax_rows` of them.
std::int64_t workspace_elements(const ModelShape& model, std::int64_t positions,
                                std::int64_t softmax_rows) {
  const std::int64_t G = gate_count(model.cell.kind);
  return positions * model.hidden_size * (1 + model.num_layers * (G + 2)) +
         softmax_rows * model.vocab_size;
}

// Bytes of the rank with the most lanes: values, gradients, the packed copies of the recurrent
// weights (forward and backward), and the workspaces of training, validation and test.
std::int64_t memory_of_rank(const Plan& plan, const Config& config, std::int64_t real_bytes) {
  const std::int64_t T = plan.num_steps, H = plan.model.hidden_size;
  const std::int64_t L = plan.model.num_layers, G = gate_count(plan.model.cell.kind);
  const std::int64_t gradients = plan.parameters - plan.model.vocab_size * H + plan.max_rows * H;
  const std::int64_t packed = L * 2 * H * G * H;
  const std::int64_t train = T * plan.lanes_of(0).count;
  const std::int64_t valid =
      T * deal_lanes(static_cast<int>(config.eval_lanes), 0, plan.ranks).count;
  const std::int64_t test_rows = deal_lanes(kTestSteps, 0, plan.ranks).count;
  const bool drops = config.keep_prob < 1.0;
  const std::int64_t back = train * H * (drops ? 1 + L : 1);   // d_io, dropped outputs
  const std::int64_t masks = drops ? (L + 1) * train * H : 0;  // a byte each
  return masks + real_bytes * (plan.parameters + gradients + packed + back +
                               workspace_elements(plan.model, train, train) +
                               workspace_elements(plan.model, valid, valid) +
                               workspace_elements(plan.model, kTestSteps, test_rows));
}

// "3 lanes on ranks 0-3, 2 lanes on ranks 4-7"
std::string dealing(const Plan& plan) {
  std::string text;
  for (int first = 0; first < plan.ranks;) {
    const int lanes = plan.lanes_of(first).count;
    int last = first;
    while (last + 1 < plan.ranks && plan.lanes_of(last + 1).count == lanes) ++last;
    text += fmt::format(
        "{}{} lane{} on rank{}", text.empty() ? "" : ", ", lanes, lanes == 1 ? "" : "s",
        first == last ? fmt::format(" {}", first) : fmt::format("s {}-{}", first, last));
    first = last + 1;
  }
  return text;
}

int global_lanes(const Config& config, int ranks) {
  const auto batch_size = static_cast<int>(config.batch_size);
  if (config.scaling == "weak") {
    if (config.batch_size * ranks > 1'000'000) {
      throw Error(ExitCode::usage,
                  {.what = "too many lanes",
                   .where = "scaling = \"weak\"",
                   .why = fmt::format("{} ranks with {} lanes each", ranks, batch_size),
                   .remedy = "lower --batch-size"});
    }
    return batch_size * ranks;
  }
  if (ranks > batch_size) {
    throw Error(ExitCode::usage,
                {.what = "more ranks than lanes",
                 .where = "scaling = \"strong\"",
                 .why = fmt::format("{} ranks share a batch of {} lanes, and each needs one", ranks,
                                    batch_size),
                 .remedy = fmt::format("start at most {} ranks, raise --batch-size, or use "
                                       "--scaling weak (batch_size lanes on every rank)",
                                       batch_size)});
  }
  return batch_size;
}

}  // namespace

LaneSlice Plan::lanes_of(int rank) const { return deal_lanes(global_lanes, rank, ranks); }

Plan make_plan(const Config& config, const Corpus& corpus, int ranks, std::size_t real_bytes) {
  Plan plan;
  plan.model = {.vocab_size = config.vocab_size,
                .hidden_size = config.hidden_size,
                .num_layers = static_cast<int>(config.num_layers),
                .cell = {.kind = CellKind::lstm, .forget_bias = config.forget_bias}};
  plan.ranks = ranks;
  plan.global_lanes = global_lanes(config, ranks);
  plan.num_steps = static_cast<int>(config.num_steps);
  plan.epochs = static_cast<int>(config.max_max_epoch);

  const Lanes train(corpus.split(Split::train), plan.global_lanes, plan.num_steps, "train");
  // Made here only for their complaints about a split that is too short.
  const Lanes valid(corpus.split(Split::valid), static_cast<int>(config.eval_lanes), plan.num_steps,
                    "valid");
  const Lanes test(corpus.split(Split::test), 1, plan.num_steps, "test", Remainder::keep);
  plan.windows_per_epoch = train.windows();
  plan.train_tokens_per_epoch = train.predicted_tokens();

  const ParameterTable table(plan.model);
  const auto H = plan.model.hidden_size;
  plan.parameters = table.elements();
  plan.max_rows = std::min<std::int64_t>(plan.model.vocab_size,
                                         std::int64_t{plan.num_steps} * plan.global_lanes);
  const auto real = static_cast<std::int64_t>(real_bytes);
  plan.all_reduce_bytes = ranks == 1 ? 0 : real * (table.dense_elements() + plan.max_rows * H);
  plan.rank_bytes = memory_of_rank(plan, config, real);
  const auto h = static_cast<double>(H);
  const double kernels = plan.model.num_layers * 2 * h * gate_count(plan.model.cell.kind) * h;
  // A product of [m,k] by [k,n] is 2·m·k·n operations; backward takes two of the same size.
  plan.flops_per_word = 3 * 2 * (kernels + h * static_cast<double>(plan.model.vocab_size));
  return plan;
}

std::vector<std::string> Plan::lines(const Config& config) const {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("Model: {} parameters ({}), V {}, H {}, L {}", parameters,
                              bytes_text(parameters * 4), model.vocab_size, model.hidden_size,
                              model.num_layers));
  lines.push_back(fmt::format("Batch: {} scaling, {} global lanes of {} steps: {}", config.scaling,
                              global_lanes, num_steps, dealing(*this)));
  lines.push_back(fmt::format("Epoch: {} windows (updates), {} predicted tokens; {} epoch{}",
                              windows_per_epoch, train_tokens_per_epoch, epochs,
                              epochs == 1 ? "" : "s"));
  lines.push_back(ranks == 1 ? "All-reduce: none, there is one rank"
                             : fmt::format("All-reduce: at most {} per window and rank",
                                           bytes_text(all_reduce_bytes)));
  lines.push_back(
      fmt::format("Memory: about {} per rank (without the corpus); {:.2f} MFLOP per word",
                  bytes_text(rank_bytes), flops_per_word / 1e6));
  if (config.scaling == "strong" && ranks > 1 && lanes_of(ranks - 1).count < kFewLanes) {
    lines.push_back(fmt::format(
        "Note: with fewer than {} lanes a rank reads all weights for few rows and exchanges all "
        "gradients; expect little speed-up over fewer ranks",
        kFewLanes));
  }
  return lines;
}

std::vector<std::string> Plan::warnings(const Config& config) const {
  if (config.scaling != "weak" || ranks == 1) return {};
  return {fmt::format(
      "weak scaling: {} updates an epoch instead of about {} on one rank, at the same learning "
      "rate; expect another perplexity",
      windows_per_epoch, std::int64_t{windows_per_epoch} * ranks)};
}

}  // namespace ptb
