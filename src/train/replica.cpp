#include "ptb_dist/train/replica.hpp"

#include <span>

namespace ptb {
namespace {

EvaluatorParts evaluator_parts(const ReplicaParts& parts, LanguageModel& model) {
  return {.backend = parts.backend,
          .model = model,
          .communicator = parts.communicator,
          .shape = parts.work.model,
          .groups = parts.work.lane_groups,
          .rank = parts.rank,
          .ranks = parts.work.ranks};
}

// Fills `to` [b,...] from its lanes in `from` [B,...].
void upload_lanes(Backend& backend, const Tensor& to, const HostTensor& from, LaneSlice lanes) {
  const std::size_t lane_bytes = from.values.size() / static_cast<std::size_t>(lanes.global);
  backend.upload(to, std::span(from.values)
                         .subspan(static_cast<std::size_t>(lanes.first) * lane_bytes,
                                  static_cast<std::size_t>(lanes.count) * lane_bytes));
}

}  // namespace

Replica::Replica(const ReplicaParts& parts)
    : backend_(parts.backend),
      train_lanes_(parts.corpus.split(Split::train), parts.work.global_lanes, parts.work.num_steps,
                   {.split = "train"}),
      valid_lanes_(valid_lanes(parts.corpus, parts.config)),
      test_lanes_(test_lanes(parts.corpus)),
      step_({.backend = backend_,
             .communicator = parts.communicator,
             .parameters = parts.parameters,
             .split = train_lanes_,
             .groups = parts.work.groups_of(parts.rank),
             .keep_prob = parts.config.keep_prob,
             .seed = static_cast<std::uint64_t>(parts.config.seed),
             .max_grad_norm = parts.config.max_grad_norm}),
      validation_(evaluator_parts(parts, step_.model()), valid_lanes_, Evaluator::Sharing::lanes,
                  "valid"),
      test_(evaluator_parts(parts, step_.model()), test_lanes_, Evaluator::Sharing::positions,
            "test") {}

void Replica::set_state(const HostState& state) {
  for (LaneGroup& group : step_.lane_groups().groups()) {
    const std::vector<Tensor> tensors = group.state.tensors();
    require(tensors.size() == state.size(), "a run continues with the state of its model");
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      upload_lanes(backend_, tensors[i], state[i], group.lanes);
    }
  }
}

}  // namespace ptb
