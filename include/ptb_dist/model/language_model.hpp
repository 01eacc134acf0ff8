// The language model of Zaremba et al. (2014): embedding, a stack of recurrent layers, softmax.
//
// The model owns no memory of a window: a Batch holds the tokens, a RecurrentState what is carried
// from window to window, a Workspace the activations. So training, validation and test, or several
// groups of lanes, use one model with states and workspaces of their own.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/model/batch.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

// The embedding's gradient for the loaded window.
Rows embedding_rows(const BatchWords& words, const Gradients& gradients);

// h of every layer, and c if the cell has it, for lanes that are computed together.
struct RecurrentState {
  RecurrentState() = default;
  RecurrentState(Backend& backend, const ModelShape& shape, int lanes);
  void reset(Backend& backend);
  // Views with the names, shapes and order of state_table().
  std::vector<Tensor> tensors() const;
  // Device memory, if a real has `real_bytes`.
  static std::int64_t bytes(const ModelShape& shape, std::int64_t lanes, std::int64_t real_bytes);

  Tensor h, c;  // [L,B,H]; c may be empty
};

// What a workspace is made for.
struct WorkspaceSize {
  int max_steps = 0;              // T, at most
  int lanes = 0;                  // B
  std::int64_t softmax_rows = 0;  // positions whose logits are needed at a time, at most T·B
  bool for_training = false;      // with gradients, and with dropout if keep_prob < 1
  double keep_prob = 1.0;
  std::uint64_t seed = 0;  // of dropout
};

// Activations of one window, and the gradients that flow back through them. Groups with the same
// number of lanes may share a workspace, one after the other, each up to the end of its backward
// pass.
struct Workspace {
  Workspace() = default;
  Workspace(Backend& backend, const ModelShape& shape, const WorkspaceSize& size);
  // Device memory, if a real has `real_bytes`.
  static std::int64_t bytes(const ModelShape& shape, const WorkspaceSize& size,
                            std::int64_t real_bytes);

  StackActivations activations;  // of max_steps steps
  Dropout dropout;               // masks [L+1,T,B,H], empty when every value is kept
  Tensor d_io;                   // [T,B,H]
  Tensor logits;                 // [softmax_rows,V]
};

// One piece of the backward pass: Backend::run_segment(key, enqueue) runs it.
struct Segment {
  std::string name;  // "softmax", "recurrence", "layer 1", "embedding"
  SegmentKey key;
  std::function<void()> enqueue;
  // The part of the gradient that is final after this segment: its sum over the ranks may begin.
  // Empty if no part is.
  std::optional<GradientPart> completes;
};

// Positions of a window, counted t·B + b, whose cross-entropy is wanted.
struct PositionRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

class LanguageModel {
 public:
  LanguageModel(Backend& backend, Parameters& parameters);

  // Cross-entropy of the window that has begun (Windows::begin), summed over the batch's positions,
  // into `loss` ([1] f64). Leaves in the workspace what the backward pass needs, and in `state` the
  // window's last h and c. The gradient is that of cross-entropy / global lanes. Captured once per
  // batch, so a batch must always be given the same state, workspace and loss.
  void forward(const Batch& batch, RecurrentState& state, Workspace& workspace, const Tensor& loss);

  // The backward pass of the window that `forward` has just run; the caller runs the segments in
  // this order. A batch must always be given the same workspace and gradients.
  std::vector<Segment> backward_segments(const Batch& batch, Workspace& workspace,
                                         Gradients& gradients);

  // Cross-entropy of the window that has begun, without dropout or gradient: an element of `losses`
  // ([ranges] f64) for each range of positions. The state moves on over the whole window. Captured
  // once per batch and number of steps, so these must always be given the same state, workspace,
  // ranges and losses.
  void evaluate(const Batch& batch, RecurrentState& state, Workspace& workspace,
                std::span<const PositionRange> ranges, const Tensor& losses);

 private:
  // Tokens to the top layer's output; returns the activations cut to the batch's T steps.
  StackActivations recur(const Batch& batch, RecurrentState& state, Workspace& workspace);

  Backend& backend_;
  Parameters& parameters_;
};

}  // namespace ptb
