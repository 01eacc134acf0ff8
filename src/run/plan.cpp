#include "ptb_dist/run/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/units.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/train/evaluator.hpp"
#include "ptb_dist/train/lane_groups.hpp"

namespace ptb {
namespace {

// With fewer lanes on a rank, more ranks hardly help.
constexpr int kFewLanes = 8;

// Copies of a file while it is saved: HDF5's own, and the bytes that a thread writes.
constexpr int kCopiesOfSave = 2;

// The lanes of a rank's groups, and their different sizes: each size has a workspace.
struct GroupSizes {
  std::int64_t lanes = 0;
  std::set<int> sizes{};
};

GroupSizes sizes_of(const std::vector<LaneSlice>& groups) {
  GroupSizes result;
  for (const LaneSlice& group : groups) {
    result.lanes += group.count;
    result.sizes.insert(group.count);
  }
  return result;
}

// The three splits, dealt into lanes.
struct Splits {
  Lanes train, valid, test;
};

// The ids of all windows of a rank's batches.
std::int64_t window_bytes(const Plan& plan, const Splits& splits,
                          const std::vector<LaneSlice>& train,
                          const std::vector<LaneSlice>& valid) {
  std::int64_t bytes =
      batch_words_bytes(splits.train, plan.max_rows) + batch_bytes(splits.test, 1, 0);
  for (const LaneSlice& group : train) {
    bytes += batch_bytes(splits.train, group.count, plan.max_rows);
  }
  for (const LaneSlice& group : valid) bytes += batch_bytes(splits.valid, group.count, 0);
  return bytes;
}

// Bytes of the rank with the most lanes: values, gradients, ids, the workspaces of training,
// validation and test, and the backend's own memory.
std::int64_t memory_of_rank(const Plan& plan, const Config& config, const Splits& splits,
                            const Backend& backend) {
  const auto real_bytes = static_cast<std::int64_t>(size_of(backend.real_type()));
  const std::vector<LaneSlice> groups = plan.groups_of(0);
  const std::int64_t slabs = slab_count(tree_turns(static_cast<int>(groups.size())));
  const GroupSizes train = sizes_of(groups);
  const std::vector<LaneSlice> valid_groups =
      groups_of_rank(splits.valid.lanes(), plan.lane_groups, 0, plan.ranks);
  const GroupSizes valid = sizes_of(valid_groups);
  std::set<int> lanes = train.sizes;
  lanes.insert(valid.sizes.begin(), valid.sizes.end());
  lanes.insert(1);  // the test's
  const Extents extents = {.layers = plan.model.num_layers,
                           .hidden = plan.model.hidden_size,
                           .vocab = plan.model.vocab_size,
                           .cell = plan.model.cell.kind,
                           .lanes = {lanes.begin(), lanes.end()},
                           .positions = std::int64_t{plan.num_steps} * *train.sizes.rbegin()};
  const std::int64_t state_lanes = train.lanes + valid.lanes + 1;
  std::int64_t bytes =
      plan.parameter_bytes + slabs * Gradients::bytes(plan.model, plan.max_rows, real_bytes) +
      RecurrentState::bytes(plan.model, state_lanes, real_bytes) +
      window_bytes(plan, splits, groups, valid_groups) + backend.own_bytes(extents);
  const auto add_workspace = [&](const WorkspaceSize& size) {
    bytes += Workspace::bytes(plan.model, size, real_bytes);
  };
  for (const int size : train.sizes) {
    add_workspace({.max_steps = plan.num_steps,
                   .lanes = size,
                   .softmax_rows = std::int64_t{plan.num_steps} * size,
                   .for_training = true,
                   .keep_prob = config.keep_prob});
  }
  for (const int size : valid.sizes) {
    add_workspace({.max_steps = plan.num_steps,
                   .lanes = size,
                   .softmax_rows = std::int64_t{plan.num_steps} * size});
  }
  add_workspace({.max_steps = kTestSteps,
                 .lanes = 1,
                 .softmax_rows = deal_lanes(kTestSteps, 0, plan.lane_groups).count});
  return bytes;
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

int global_lanes(const Config& config, int ranks, int kept_lanes) {
  const auto batch_size = kept_lanes > 0 ? kept_lanes : static_cast<int>(config.batch_size);
  if (config.scaling == "weak" && kept_lanes == 0) {
    if (config.batch_size * ranks > kMaxLanes) {
      throw Error(ExitCode::usage,
                  {.what = "too many lanes",
                   .where = "scaling = \"weak\"",
                   .why = fmt::format("{} ranks with {} lanes each; at most {} altogether", ranks,
                                      batch_size, kMaxLanes),
                   .remedy = "lower --batch-size"});
    }
    return batch_size * ranks;
  }
  if (kept_lanes > 0 && ranks > kept_lanes) {
    throw Error(ExitCode::usage,
                {.what = "more ranks than lanes",
                 .why = fmt::format("{} ranks share the checkpoint's {} lanes, and each needs one",
                                    ranks, kept_lanes),
                 .remedy = fmt::format("start at most {} ranks", kept_lanes)});
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

int lane_groups(const Config& config, int ranks, int lanes) {
  const auto groups = static_cast<int>(config.lane_groups);
  if (groups == 0) return ranks;
  const std::string where = fmt::format("lane_groups = {}", groups);
  if (groups < ranks) {
    throw Error(ExitCode::usage,
                {.what = "more ranks than lane groups",
                 .where = where,
                 .why = fmt::format("each of {} ranks needs a group", ranks),
                 .remedy = fmt::format("start at most {} ranks, or raise --lane-groups", groups)});
  }
  if (groups > lanes) {
    throw Error(ExitCode::usage, {.what = "more lane groups than lanes",
                                  .where = where,
                                  .why = fmt::format("the batch has {} lanes", lanes),
                                  .remedy = "lower --lane-groups or raise --batch-size"});
  }
  return groups;
}

// A resumed run has the lanes and steps of its checkpoint, so no flag changes them.
SplitFlags train_flags(const Config& config, const Plan& plan, int kept_lanes) {
  if (kept_lanes > 0) return {.split = "train"};
  return {.split = "train",
          .lanes = "--batch-size",
          .lanes_per_unit = config.scaling == "weak" ? plan.ranks : 1,
          .fewest_lanes = plan.lane_groups,
          .steps = "--num-steps"};
}

std::string memory_text(const Plan& plan) {
  const std::string bytes = bytes_text(plan.rank_bytes);
  if (plan.device_memory == 0) {
    return fmt::format(
        "Memory: about {} per rank (model, gradients, activations, ids of the windows), and {} for "
        "the text",
        bytes, bytes_text(plan.text_bytes));
  }
  return fmt::format("GPU memory: about {} per rank, of {} (without CUDA's and NCCL's own)", bytes,
                     bytes_text(plan.device_memory));
}

// "3" or "2 or 3" lanes of a group.
std::string sizes_text(const Plan& plan) {
  const int fewest = plan.global_lanes / plan.lane_groups;
  return plan.global_lanes % plan.lane_groups == 0 ? std::to_string(fewest)
                                                   : fmt::format("{} or {}", fewest, fewest + 1);
}

// "1, 2, 4 or 8": the numbers of ranks that give the same bits.
std::string equal_ranks(int groups) {
  std::vector<int> numbers;
  for (int ranks = 1; ranks <= groups; ranks *= 2) {
    if (is_subtree_each(groups, ranks)) numbers.push_back(ranks);
  }
  const int last = numbers.back();
  numbers.pop_back();
  return numbers.empty() ? std::to_string(last)
                         : fmt::format("{} or {}", fmt::join(numbers, ", "), last);
}

}  // namespace

Plan make_plan(const Config& config, const Corpus& corpus, int ranks, const Backend& backend,
               int kept_lanes) {
  Plan plan;
  plan.model = shape_of(config);
  plan.ranks = ranks;
  plan.global_lanes = global_lanes(config, ranks, kept_lanes);
  plan.lane_groups = lane_groups(config, ranks, plan.global_lanes);
  plan.num_steps = static_cast<int>(config.num_steps);
  plan.epochs = static_cast<int>(config.max_max_epoch);

  const SplitFlags train = train_flags(config, plan, kept_lanes);
  const SplitFlags valid = {.split = "valid", .lanes = "--eval-lanes", .steps = train.steps};
  const Splits splits = {
      .train = Lanes(corpus.split(Split::train), plan.global_lanes, plan.num_steps, train),
      .valid = valid_lanes(corpus, config, kept_lanes > 0 ? SplitFlags{.split = "valid"} : valid),
      .test = test_lanes(corpus)};
  plan.windows_per_epoch = splits.train.windows();
  plan.train_tokens_per_epoch = splits.train.predicted_tokens();

  const ParameterTable table(plan.model);
  const auto H = plan.model.hidden_size;
  plan.parameters = table.elements();
  plan.max_rows = WindowWords(splits.train).most();
  const std::size_t real_bytes = size_of(backend.real_type());
  const auto real = static_cast<std::int64_t>(real_bytes);
  plan.parameter_bytes = real * plan.parameters;
  plan.all_reduce_bytes = ranks == 1 ? 0 : real * (table.dense_elements() + plan.max_rows * H);
  for (const auto& tokens : corpus.tokens) {
    plan.text_bytes += static_cast<std::int64_t>(tokens.size() * sizeof(std::int32_t));
  }
  plan.device_memory = backend.device().memory;
  plan.rank_bytes = memory_of_rank(plan, config, splits, backend);
  plan.checkpoint_bytes =
      checkpoint_bytes(table, state_table(plan.model, plan.global_lanes), real_bytes);
  const auto h = static_cast<double>(H);
  const double kernels = plan.model.num_layers * 2 * h * traits_of(plan.model.cell.kind).gates * h;
  // A product of [m,k] by [k,n] is 2·m·k·n operations; backward takes two of the same size.
  plan.flops_per_word = 3 * 2 * (kernels + h * static_cast<double>(plan.model.vocab_size));
  return plan;
}

std::vector<std::string> Plan::lines(const Config& config) const {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("Model: {} parameters ({}), V {}, H {}, L {}", parameters,
                              bytes_text(parameter_bytes), model.vocab_size, model.hidden_size,
                              model.num_layers));
  lines.push_back(fmt::format("Batch: {} scaling, {} global lanes of {} steps: {}", config.scaling,
                              global_lanes, num_steps, dealing(*this)));
  if (config.lane_groups > 0) {
    lines.push_back(
        fmt::format("Lane groups: {} of {} lanes, at most {} per rank; the same bits on {} ranks",
                    lane_groups, sizes_text(*this), groups_of(0).size(), equal_ranks(lane_groups)));
  }
  lines.push_back(fmt::format("Epoch: {} windows (updates), {} predicted tokens; {} epoch{}",
                              windows_per_epoch, train_tokens_per_epoch, epochs,
                              epochs == 1 ? "" : "s"));
  lines.push_back(ranks == 1 ? "All-reduce: none, there is one rank"
                             : fmt::format("All-reduce: at most {} per window and rank",
                                           bytes_text(all_reduce_bytes)));
  lines.push_back(
      fmt::format("{}; {:.2f} MFLOP per word", memory_text(*this), flops_per_word / 1e6));
  lines.push_back(
      fmt::format("Checkpoint: about {}; while one is saved rank 0 needs {} more of its host",
                  bytes_text(checkpoint_bytes), bytes_text(kCopiesOfSave * checkpoint_bytes)));
  if (config.scaling == "strong" && ranks > 1 && lanes_of(ranks - 1).count < kFewLanes) {
    lines.push_back(fmt::format(
        "Note: with fewer than {} lanes a rank reads all weights for few rows and exchanges all "
        "gradients; expect little speed-up over fewer ranks",
        kFewLanes));
  }
  return lines;
}

std::vector<std::string> Plan::warnings(const Config& config, int ranks_on_a_gpu) const {
  std::vector<std::string> warnings;
  if (config.scaling == "weak" && ranks > 1) {
    warnings.push_back(fmt::format(
        "weak scaling: {} updates an epoch instead of about {} on one rank, at the same learning "
        "rate; expect a different perplexity",
        windows_per_epoch, std::int64_t{windows_per_epoch} * ranks));
  }
  if (config.lane_groups > 0 && !is_subtree_each(lane_groups, ranks)) {
    warnings.push_back(
        fmt::format("{} lane groups have the same bits on {} ranks; on {} they are equal up to "
                    "rounding",
                    lane_groups, equal_ranks(lane_groups), ranks));
  }
  if (device_memory > 0 && ranks_on_a_gpu * rank_bytes > device_memory) {
    warnings.push_back(
        fmt::format("{} about {} of its memory, and it has {}",
                    ranks_on_a_gpu == 1 ? "a rank on a GPU needs"
                                        : fmt::format("{} ranks on a GPU need", ranks_on_a_gpu),
                    bytes_text(ranks_on_a_gpu * rank_bytes), bytes_text(device_memory)));
  }
  return warnings;
}

}  // namespace ptb
