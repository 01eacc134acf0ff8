// The LSTM language model of Zaremba et al. (2014): embedding, a stack of LSTM layers, softmax.
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

// The embedding's gradient of the loaded window.
Rows embedding_rows(const BatchWords& words, const Gradients& gradients);

// h and c of every layer, for lanes that are computed together.
struct RecurrentState {
  RecurrentState() = default;
  RecurrentState(Backend& backend, const ModelShape& shape, int lanes);
  void reset(Backend& backend);
  // Each a view; names, shapes and order are those of state_table().
  std::vector<Tensor> tensors() const;

  Tensor h, c;  // [L,B,H]
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

// Activations of one window, and the gradients that flow back through them. Groups of as many lanes
// may use one in turn, as long as each is through with its backward pass.
struct Workspace {
  Workspace() = default;
  Workspace(Backend& backend, const ModelShape& shape, const WorkspaceSize& size);

  StackActivations activations;  // of max_steps steps
  Dropout dropout;               // masks [L+1,T,B,H], empty when every value is kept
  Tensor d_io;                   // [T,B,H]
  Tensor logits;                 // [softmax_rows,V]
};

// One piece of the backward pass. `completes` is the part of the gradient that is final when it has
// run, empty if none: what an all-reduce may start on.
struct Segment {
  std::string name;  // "softmax", "recurrence", "layer 1", "embedding"
  std::function<void()> run;
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

  // Cross-entropy of a training window, summed over its positions, into `loss` ([1] f64); leaves in
  // the workspace what the backward pass needs, and in `state` the window's last h and c. The
  // gradient is that of cross-entropy / global lanes. The window is StepState's, and the batch has
  // selected it. It is a segment of the batch, so a batch is always given with the same state,
  // workspace and loss.
  void forward(const Batch& batch, RecurrentState& state, Workspace& workspace, const Tensor& loss);

  // The backward pass of the window that `forward` has just run, in the order in which it is to
  // run.
  std::vector<Segment> backward_segments(const Batch& batch, Workspace& workspace,
                                         Gradients& gradients);

  // Cross-entropy of such a window without dropout or gradient, for each of the given ranges of its
  // positions into an element of `losses` ([ranges] f64); the state moves on over the whole window. It
  // is a segment of the batch for each length of window, always given with the same of all these.
  void evaluate(const Batch& batch, RecurrentState& state, Workspace& workspace,
                std::span<const PositionRange> ranges, const Tensor& losses);

 private:
  // Tokens to the top layer's output; returns the activations cut to the batch's T steps.
  StackActivations recur(const Batch& batch, RecurrentState& state, Workspace& workspace);

  Segment softmax_segment(Workspace& workspace, Gradients& gradients);
  Segment layer_segment(int layer, Workspace& workspace, Gradients& gradients);
  Segment embedding_segment(const Batch& batch, Workspace& workspace, Gradients& gradients);

  Backend& backend_;
  Parameters& parameters_;
};

}  // namespace ptb
