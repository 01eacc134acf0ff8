#include "ptb_dist/model/language_model.hpp"

#include <fmt/format.h>

namespace ptb {
namespace {

// The segments of a batch by number. In training: forward, then the backward pass in its order. In
// evaluation: one for each length of window, because the last window of a split may be shorter.
constexpr int kForward = 0;

SegmentKey segment_key(const Batch& batch, int index) { return {.owner = &batch, .index = index}; }

}  // namespace

Rows embedding_rows(const BatchWords& words, const Gradients& gradients) {
  return {.packed = gradients.rows(), .ids = words.ids(), .count = words.device_count()};
}

RecurrentState::RecurrentState(Backend& backend, const ModelShape& shape, int lanes) {
  const Shape extents{shape.num_layers, lanes, shape.hidden_size};
  h = backend.allocate(backend.real_type(), extents);
  if (traits_of(shape.cell.kind).has_c) c = backend.allocate(backend.real_type(), extents);
}

void RecurrentState::reset(Backend& backend) {
  backend.set_zero(h);
  if (!c.empty()) backend.set_zero(c);
}

std::vector<Tensor> RecurrentState::tensors() const {
  std::vector<Tensor> result;
  for (std::int64_t layer = 0; layer < h.shape()[0]; ++layer) {
    result.push_back(h[layer]);
    // Not by c.empty(): that is also true without lanes.
    if (c.shape().rank() == h.shape().rank()) result.push_back(c[layer]);
  }
  return result;
}

std::int64_t RecurrentState::bytes(const ModelShape& shape, std::int64_t lanes,
                                   std::int64_t real_bytes) {
  const std::int64_t tensors = traits_of(shape.cell.kind).has_c ? 2 : 1;
  return tensors * shape.num_layers * lanes * shape.hidden_size * real_bytes;
}

Workspace::Workspace(Backend& backend, const ModelShape& shape, const WorkspaceSize& size) {
  const std::int64_t T = size.max_steps;
  const std::int64_t B = size.lanes;
  const std::int64_t H = shape.hidden_size;
  const CellTraits cell = traits_of(shape.cell.kind);
  const std::int64_t G = cell.gates;
  const bool drops = size.for_training && size.keep_prob < 1.0;
  const ElementType real = backend.real_type();

  activations.input = backend.allocate(real, {T, B, H});
  for (int l = 0; l < shape.num_layers; ++l) {
    activations.gates.push_back(backend.allocate(real, {T, B, G * H}));
    activations.hidden.push_back(backend.allocate(real, {T + 1, B, H}));
    activations.shares.push_back(cell.has_recurrent_share ? backend.allocate(real, {T, B, G * H})
                                                          : Tensor());
    activations.cell.push_back(cell.has_c ? backend.allocate(real, {T + 1, B, H}) : Tensor());
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

std::int64_t Workspace::bytes(const ModelShape& shape, const WorkspaceSize& size,
                              std::int64_t real_bytes) {
  const CellTraits cell = traits_of(shape.cell.kind);
  const bool drops = size.for_training && size.keep_prob < 1.0;
  const std::int64_t L = shape.num_layers, G = cell.gates;
  const std::int64_t step = std::int64_t{size.lanes} * shape.hidden_size;  // [B,H]
  const std::int64_t values = size.max_steps * step;                       // [T,B,H]
  const std::int64_t states = (cell.has_c ? 2 : 1) * (values + step);      // [T+1,B,H] each
  const std::int64_t gates = (cell.has_recurrent_share ? 2 : 1) * G * values;
  std::int64_t reals = values + L * (gates + states) + size.softmax_rows * shape.vocab_size;
  if (size.for_training) reals += values;                      // d_io
  if (drops) reals += L * values;                              // dropped outputs
  return reals * real_bytes + (drops ? (L + 1) * values : 0);  // masks are a byte each
}

LanguageModel::LanguageModel(Backend& backend, Parameters& parameters)
    : backend_(backend), parameters_(parameters) {}

StackActivations LanguageModel::recur(const Batch& batch, RecurrentState& state,
                                      Workspace& workspace) {
  const std::int64_t T = batch.num_steps();
  const std::int64_t B = batch.lanes().count;
  StackActivations window;
  window.input = workspace.activations.input.slice(0, T);
  for (std::size_t l = 0; l < workspace.activations.gates.size(); ++l) {
    window.gates.push_back(workspace.activations.gates[l].slice(0, T));
    window.hidden.push_back(workspace.activations.hidden[l].slice(0, T + 1));
    const Tensor& share = workspace.activations.shares[l];
    const Tensor& cell = workspace.activations.cell[l];
    window.shares.push_back(share.empty() ? share : share.slice(0, T));
    window.cell.push_back(cell.empty() ? cell : cell.slice(0, T + 1));
    window.outputs.push_back(workspace.activations.outputs[l].slice(0, T));
  }
  batch.load(backend_);
  backend_.embedding({.table = parameters_.weights().embedding,
                      .ids = batch.tensors().inputs.view({T, B}),
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
  // The key is the batch's, because groups of lanes may share a workspace, but not a batch.
  backend_.run_segment(segment_key(batch, kForward), [&] {
    // Set here, because groups of lanes that share the workspace have different first lanes.
    workspace.dropout.first_lane = batch.lanes().first;
    backend_.draw_dropout(workspace.dropout);
    const StackActivations window = recur(batch, state, workspace);
    const std::int64_t N = std::int64_t{batch.num_steps()} * batch.lanes().count;
    const std::int64_t H = parameters_.shape().hidden_size;
    backend_.softmax_loss({.hidden = window.outputs.back().view({N, H}),
                           .weights = parameters_.weights(),
                           .targets = batch.tensors().targets.view({N}),
                           .gradient_scale = 1.0 / batch.lanes().global,
                           .logits = workspace.logits.slice(0, N),
                           .loss = loss});
  });
}

std::vector<Segment> LanguageModel::backward_segments(const Batch& batch, Workspace& workspace,
                                                      Gradients& gradients) {
  require(batch.num_steps() == workspace.activations.input.shape()[0],
          "a training window has all steps of its workspace");
  const ParameterTable& table = parameters_.table();
  std::vector<Segment> segments;
  const auto add = [&](std::string name, std::optional<GradientPart> completes,
                       std::function<void()> enqueue) {
    const SegmentKey key = segment_key(batch, kForward + 1 + static_cast<int>(segments.size()));
    segments.push_back({std::move(name), key, std::move(enqueue), completes});
  };

  const ParameterTable::Softmax softmax = table.softmax();
  add("softmax", GradientPart{.first = softmax.weight, .last = softmax.bias},
      [this, softmax, &workspace, &gradients] {
        const Tensor& hidden = workspace.activations.outputs.back();
        const std::int64_t N = hidden.shape()[0] * hidden.shape()[1];
        const std::int64_t H = hidden.shape()[2];
        backend_.softmax_backward({.hidden = hidden.view({N, H}),
                                   .weights = parameters_.weights(),
                                   .d_logits = workspace.logits.slice(0, N),
                                   .d_hidden = workspace.d_io.view({N, H}),
                                   .d_weight = gradients.tensor(softmax.weight),
                                   .d_bias = gradients.tensor(softmax.bias)});
      });

  add("recurrence", std::nullopt, [this, &workspace] {
    backend_.stack_backward({.cell = parameters_.shape().cell,
                             .weights = parameters_.weights(),
                             .dropout = workspace.dropout,
                             .activations = workspace.activations,
                             .d_io = workspace.d_io});
  });

  for (int l = parameters_.shape().num_layers - 1; l >= 0; --l) {
    const ParameterTable::Layer layer = table.layers()[static_cast<std::size_t>(l)];
    add(fmt::format("layer {}", l), GradientPart{.first = layer.kernel, .last = layer.last()},
        [this, l, layer, &workspace, &gradients] {
          backend_.layer_weight_gradient(
              {.layer = l,
               .activations = workspace.activations,
               .d_kernel = gradients.tensor(layer.kernel),
               .d_bias = gradients.tensor(layer.bias),
               .d_recurrent_bias =
                   layer.recurrent_bias ? gradients.tensor(*layer.recurrent_bias) : Tensor()});
        });
  }

  const std::size_t embedding = table.embedding();
  add("embedding",
      GradientPart{.first = embedding, .last = embedding, .rows = batch.words().count()},
      [this, &batch, &workspace, &gradients] {
        backend_.embedding_backward({.d_out = workspace.d_io,
                                     .row_begin = batch.tensors().row_begin,
                                     .positions = batch.tensors().positions,
                                     .dropout = workspace.dropout,
                                     .rows = embedding_rows(batch.words(), gradients)});
      });
  return segments;
}

void LanguageModel::evaluate(const Batch& batch, RecurrentState& state, Workspace& workspace,
                             std::span<const PositionRange> ranges, const Tensor& losses) {
  backend_.prepare(parameters_.weights());
  backend_.run_segment(segment_key(batch, batch.num_steps()), [&] {
    const StackActivations window = recur(batch, state, workspace);
    const std::int64_t N = std::int64_t{batch.num_steps()} * batch.lanes().count;
    const std::int64_t H = parameters_.shape().hidden_size;
    const Tensor hidden = window.outputs.back().view({N, H});
    std::int64_t index = 0;
    for (const PositionRange& range : ranges) {
      backend_.softmax_loss(
          {.hidden = hidden.slice(range.first, range.count),
           .weights = parameters_.weights(),
           .targets = batch.tensors().targets.view({N}).slice(range.first, range.count),
           .gradient_scale = 0,
           .logits = workspace.logits.slice(0, range.count),
           .loss = losses.slice(index++, 1)});
    }
  });
}

}  // namespace ptb
