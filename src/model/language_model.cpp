#include "ptb_dist/model/language_model.hpp"

#include <fmt/format.h>

namespace ptb {

Rows embedding_rows(const BatchWords& words, const Gradients& gradients) {
  return {.packed = gradients.rows(), .ids = words.ids, .count = words.device_count};
}

RecurrentState::RecurrentState(Backend& backend, const ModelShape& shape, int lanes)
    : h(backend.allocate(backend.real_type(), {shape.num_layers, lanes, shape.hidden_size})),
      c(backend.allocate(backend.real_type(), {shape.num_layers, lanes, shape.hidden_size})) {}

void RecurrentState::reset(Backend& backend) {
  backend.set_zero(h);
  backend.set_zero(c);
}

std::vector<Tensor> RecurrentState::tensors() const {
  std::vector<Tensor> result;
  for (std::int64_t layer = 0; layer < h.shape()[0]; ++layer) {
    result.push_back(h[layer]);
    result.push_back(c[layer]);
  }
  return result;
}

Workspace::Workspace(Backend& backend, const ModelShape& shape, const WorkspaceSize& size) {
  const std::int64_t T = size.max_steps;
  const std::int64_t B = size.lanes;
  const std::int64_t H = shape.hidden_size;
  const std::int64_t G = gate_count(shape.cell.kind);
  const bool drops = size.for_training && size.keep_prob < 1.0;
  const ElementType real = backend.real_type();

  activations.input = backend.allocate(real, {T, B, H});
  for (int l = 0; l < shape.num_layers; ++l) {
    activations.gates.push_back(backend.allocate(real, {T, B, G * H}));
    activations.hidden.push_back(backend.allocate(real, {T + 1, B, H}));
    activations.cell.push_back(backend.allocate(real, {T + 1, B, H}));
    activations.outputs.push_back(drops ? backend.allocate(real, {T, B, H})
                                        : activations.hidden.back().slice(1, T));
  }
  logits = backend.allocate(real, {size.softmax_rows, shape.vocab_size});
  if (drops) {
    dropout.keep_prob = size.keep_prob;
    dropout.seed = size.seed;
    dropout.masks = backend.allocate(ElementType::u8, {shape.num_layers + 1, T, B, H});
  }
  if (size.for_training) d_io = backend.allocate(real, {T, B, H});
}

LanguageModel::LanguageModel(Backend& backend, Parameters& parameters)
    : backend_(backend), parameters_(parameters) {}

StackActivations LanguageModel::recur(const Batch& batch, RecurrentState& state,
                                      Workspace& workspace) {
  const std::int64_t T = batch.num_steps;
  const std::int64_t B = batch.lanes.count;
  StackActivations window;
  window.input = workspace.activations.input.slice(0, T);
  for (std::size_t l = 0; l < workspace.activations.gates.size(); ++l) {
    window.gates.push_back(workspace.activations.gates[l].slice(0, T));
    window.hidden.push_back(workspace.activations.hidden[l].slice(0, T + 1));
    window.cell.push_back(workspace.activations.cell[l].slice(0, T + 1));
    window.outputs.push_back(workspace.activations.outputs[l].slice(0, T));
  }
  batch.load(backend_);
  backend_.embedding({.table = parameters_.weights().embedding,
                      .ids = batch.tensors.inputs.view({T, B}),
                      .dropout = workspace.dropout,
                      .out = window.input});
  backend_.stack({.cell = parameters_.shape().cell,
                  .weights = parameters_.weights(),
                  .dropout = workspace.dropout,
                  .activations = window,
                  .h = state.h,
                  .c = state.c});
  return window;
}

void LanguageModel::forward(const Batch& batch, RecurrentState& state, Workspace& workspace,
                            const Tensor& loss) {
  backend_.prepare(parameters_.weights());
  // Groups of lanes may share a workspace, but each has a batch.
  backend_.run_segment({.owner = &batch}, [&] {
    workspace.dropout.first_lane = batch.lanes.first;
    backend_.draw_dropout(workspace.dropout);
    const StackActivations window = recur(batch, state, workspace);
    const std::int64_t N = std::int64_t{batch.num_steps} * batch.lanes.count;
    const std::int64_t H = parameters_.shape().hidden_size;
    backend_.softmax_loss({.hidden = window.outputs.back().view({N, H}),
                           .weights = parameters_.weights(),
                           .targets = batch.tensors.targets.view({N}),
                           .gradient_scale = 1.0 / batch.lanes.global,
                           .logits = workspace.logits.slice(0, N),
                           .loss = loss});
  });
}

std::vector<Segment> LanguageModel::backward_segments(const Batch& batch, Workspace& workspace,
                                                      Gradients& gradients) {
  require(batch.num_steps == workspace.activations.input.shape()[0],
          "a training window has all steps of its workspace");
  const int layers = parameters_.shape().num_layers;
  std::vector<Segment> segments;
  segments.push_back(softmax_segment(workspace, gradients));
  segments.push_back({.name = "recurrence",
                      .run =
                          [this, &workspace] {
                            backend_.stack_backward({.cell = parameters_.shape().cell,
                                                     .weights = parameters_.weights(),
                                                     .dropout = workspace.dropout,
                                                     .activations = workspace.activations,
                                                     .d_io = workspace.d_io});
                          },
                      .completes = {}});
  for (int layer = layers - 1; layer >= 0; --layer) {
    segments.push_back(layer_segment(layer, workspace, gradients));
  }
  segments.push_back(embedding_segment(batch, workspace, gradients));
  return segments;
}

Segment LanguageModel::softmax_segment(Workspace& workspace, Gradients& gradients) {
  const std::size_t weight = parameters_.table().softmax_weight();
  return {.name = "softmax",
          .run =
              [this, weight, &workspace, &gradients] {
                const Tensor& hidden = workspace.activations.outputs.back();
                const std::int64_t N = hidden.shape()[0] * hidden.shape()[1];
                const std::int64_t H = hidden.shape()[2];
                backend_.softmax_backward({.hidden = hidden.view({N, H}),
                                           .weights = parameters_.weights(),
                                           .d_logits = workspace.logits.slice(0, N),
                                           .d_hidden = workspace.d_io.view({N, H}),
                                           .d_weight = gradients.tensor(weight),
                                           .d_bias = gradients.tensor(weight + 1)});
              },
          .completes = GradientPart{.first = weight, .last = weight + 1}};
}

Segment LanguageModel::layer_segment(int layer, Workspace& workspace, Gradients& gradients) {
  const std::size_t kernel = parameters_.table().lstm_kernel(layer);
  return {.name = fmt::format("layer {}", layer),
          .run =
              [this, layer, kernel, &workspace, &gradients] {
                backend_.layer_weight_gradient({.layer = layer,
                                                .activations = workspace.activations,
                                                .d_kernel = gradients.tensor(kernel),
                                                .d_bias = gradients.tensor(kernel + 1)});
              },
          .completes = GradientPart{.first = kernel, .last = kernel + 1}};
}

Segment LanguageModel::embedding_segment(const Batch& batch, Workspace& workspace,
                                         Gradients& gradients) {
  return {.name = "embedding",
          .run =
              [this, &batch, &workspace, &gradients] {
                backend_.embedding_backward({.d_out = workspace.d_io,
                                             .row_begin = batch.tensors.row_begin,
                                             .positions = batch.tensors.positions,
                                             .dropout = workspace.dropout,
                                             .rows = embedding_rows(*batch.words, gradients)});
              },
          .completes = GradientPart{.rows = batch.words->count}};
}

void LanguageModel::evaluate(const Batch& batch, RecurrentState& state, Workspace& workspace,
                             std::span<const PositionRange> ranges, const Tensor& losses) {
  backend_.prepare(parameters_.weights());
  // The last window of a split may be shorter, which makes another segment of it.
  backend_.run_segment({.owner = &batch, .index = batch.num_steps}, [&] {
    const StackActivations window = recur(batch, state, workspace);
    const std::int64_t N = std::int64_t{batch.num_steps} * batch.lanes.count;
    const std::int64_t H = parameters_.shape().hidden_size;
    const Tensor hidden = window.outputs.back().view({N, H});
    std::int64_t index = 0;
    for (const PositionRange& range : ranges) {
      backend_.softmax_loss(
          {.hidden = hidden.slice(range.first, range.count),
           .weights = parameters_.weights(),
           .targets = batch.tensors.targets.view({N}).slice(range.first, range.count),
           .gradient_scale = 0,
           .logits = workspace.logits.slice(0, range.count),
           .loss = losses.slice(index++, 1)});
    }
  });
}

}  // namespace ptb
