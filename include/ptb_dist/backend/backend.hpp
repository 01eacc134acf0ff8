// The seam between the model and the machine: memory, ordering, and a handful of coarse operations.
//
// One training step crosses this interface about a dozen times, so a backend is free to batch
// products over time, pack weights, fuse loops, or replay a captured graph. Alphabet: T steps of a
// window, B lanes computed together, L layers, H hidden units (also the embedding width), G gates
// (4 for the LSTM), V vocabulary, U distinct words of the global window, R the capacity for them.
// All arrays are time-major.
//
// Contract of every operation: the call *enqueues* it, in call order; it reads and writes device
// memory only. B may be 0: then it only zeroes the sums that it owns. Nothing that changes from
// step to step is an argument: it is in StepState or in the contents of tensors, so that a segment
// can be captured once and replayed. `Real` below is real_type().
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "ptb_dist/backend/tensor.hpp"

namespace ptb {

// A recurrent cell (formulas: cell_math.hpp). lstm is the tutorial's BasicLSTMCell; gru is
// torch.nn.GRU, whose reset gate multiplies h·Wh, not h; rnn is torch.nn.RNN with tanh.
enum class CellKind { lstm, gru, rnn };
inline constexpr std::array kCellKinds{CellKind::lstm, CellKind::gru, CellKind::rnn};

// What parameters and memory a cell needs.
struct CellTraits {
  const char* name;        // in configurations and in the names of tensors
  const char* gate_order;  // the gates along the columns of a kernel
  int gates;               // G
  bool has_c;              // a second carried state beside h
  // Whether h·Wh is kept apart from x·Wx, with a bias of its own, because a gate multiplies it.
  bool has_recurrent_share;
};
constexpr CellTraits traits_of(CellKind kind) {
  switch (kind) {
    case CellKind::lstm:
      return {.name = "lstm",
              .gate_order = "i j f o",
              .gates = 4,
              .has_c = true,
              .has_recurrent_share = false};
    case CellKind::gru:
      return {.name = "gru",
              .gate_order = "r z n",
              .gates = 3,
              .has_c = false,
              .has_recurrent_share = true};
    case CellKind::rnn:
      return {.name = "rnn",
              .gate_order = "h",
              .gates = 1,
              .has_c = false,
              .has_recurrent_share = false};
  }
  throw std::logic_error("a cell of no known kind");
}

struct Cell {
  CellKind kind = CellKind::lstm;
  double forget_bias = 0.0;  // of the lstm alone
};

// The weights by role, as views into one slab. `version` names their values: every write to the
// slab raises it (Parameters::touch). A copy that a backend keeps in another layout or precision
// belongs to one version, so that no stale copy is used.
struct Weights {
  struct Layer {
    Tensor kernel;          // [2H,G·H] rows: x then h; columns: CellTraits::gate_order
    Tensor bias;            // [G·H]
    Tensor recurrent_bias;  // [G·H] of cells with a recurrent share, else empty
  };
  Tensor embedding;           // [V,H]
  std::vector<Layer> layers;  // L, from the bottom
  Tensor softmax_weight;      // [H,V]
  Tensor softmax_bias;        // [V]
  std::uint64_t version = 0;
};

// What changes from one step to the next, held in device memory by the backend.
struct StepState {
  std::int32_t epoch = 0;   // from 0
  std::int32_t window = 0;  // within the epoch, or the split that is evaluated, from 0
  double learning_rate = 0;
};

// Constants of dropout, and the keep masks of one window. With keep_prob = 1 `masks` is empty.
struct Dropout {
  double keep_prob = 1.0;
  std::uint64_t seed = 0;
  std::int32_t first_lane = 0;  // global number of lane 0 of these
  Tensor masks;                 // [L+1,T,B,H] u8, 1 = keep; site 0: embedding, l + 1: layer l
};

// --- arguments -------------------------------------------------------------------------------

// to = table[w,:], where w is StepState's window. 0 <= w < windows; a GPU does not check this.
struct WindowLoad {
  Tensor table;  // [windows,n] i32
  Tensor to;     // [n] i32
};

// out[t,b,:] = dropped(table[ids[t,b],:])
struct EmbeddingForward {
  Tensor table;            // [V,H] Real
  Tensor ids;              // [T,B] i32
  const Dropout& dropout;  // site 0
  Tensor out;              // [T,B,H] Real
};

// The gradient of some rows of a table: packed[u,:] belongs to row ids[u], for u < U. U changes
// from window to window, so it is in device memory, too (`count`).
struct Rows {
  Tensor packed;  // [R,H] Real; rows from U on have no meaning
  Tensor ids;     // [R] i32, ascending
  Tensor count;   // [1] i32, U <= R
};

// packed[u,:] = Σ over the positions p of word u of dropped(d_out[p,:]), in ascending order of p.
struct EmbeddingBackward {
  Tensor d_out;            // [T,B,H] Real
  Tensor row_begin;        // [R+1] i32: word u's are positions[row_begin[u] .. row_begin[u+1])
  Tensor positions;        // [T·B] i32
  const Dropout& dropout;  // site 0
  Rows rows;               // the first U of packed are overwritten
};

// What the stack's forward pass keeps for its backward pass. Entry t = 0 of hidden and cell is the
// state at the beginning of the window.
struct StackActivations {
  Tensor input;               // [T,B,H] the bottom layer's input
  std::vector<Tensor> gates;  // L x [T,B,G·H] activations; the backward pass leaves d_z in them
  // L x [T,B,G·H] if the cell has a recurrent share, else each is empty. After the forward pass the
  // columns of the last gate hold h·Wh + b'. After the backward pass all columns hold d_s, the
  // gradient of the share.
  std::vector<Tensor> shares;
  std::vector<Tensor> hidden;  // L x [T+1,B,H]
  std::vector<Tensor> cell;    // L x [T+1,B,H] c; each is empty if the cell has none
  // L x [T,B,H] dropped hidden: the next layer's input. Without dropout it may be the same memory
  // as entries 1 .. T of hidden.
  std::vector<Tensor> outputs;
};

// The whole stack over one window: from the embedding to the top layer's dropped output.
//   z[t] = x[t]·Wx + h[t-1]·Wh + b,  (h, c)[t] = cell(z[t], c[t-1]),  next layer's x = dropped(h)
// or, of a cell with a recurrent share,
//   z[t] = x[t]·Wx + b,  s[t] = h[t-1]·Wh + b',  h[t] = cell(z[t], s[t], h[t-1])
struct StackForward {
  Cell cell;
  const Weights& weights;
  const Dropout& dropout;  // site l + 1 for layer l
  StackActivations& activations;
  // [L,B,H] Real: the carried state. It is read, then overwritten with the state after the window.
  // c is empty if the cell has none.
  Tensor h, c;
};

// The backward pass of the recurrence over the window, all layers from the top. Leaves d_z in
// activations.gates and the gradient of the bottom layer's input in d_io. Gradients stop at the
// window's beginning.
struct StackBackward {
  Cell cell;
  const Weights& weights;
  const Dropout& dropout;
  StackActivations& activations;
  Tensor d_io;  // [T,B,H] Real. In: of the top layer's dropped output. Out: of the stack's input.
};

// d_kernel = [x,h_before]ᵀ·d_z over all T·B positions, d_bias = Σ d_z. With a recurrent share the
// kernel's rows of h are h_beforeᵀ·d_s instead, and d_recurrent_bias = Σ d_s.
struct LayerWeightGradient {
  int layer = 0;
  StackActivations& activations;
  Tensor d_kernel;          // [2H,G·H] Real, overwritten
  Tensor d_bias;            // [G·H] Real, overwritten
  Tensor d_recurrent_bias;  // [G·H] Real, overwritten; empty without a recurrent share
};

// loss = Σ over rows of the cross-entropy of softmax(hidden·W + b) against the target; if
// gradient_scale is not 0, logits are overwritten with gradient_scale · (softmax - onehot).
struct SoftmaxLoss {
  Tensor hidden;  // [N,H] Real
  const Weights& weights;
  Tensor targets;  // [N] i32
  double gradient_scale = 0;
  Tensor logits;  // [N,V] Real, workspace
  Tensor loss;    // [1] f64, overwritten
};

// d_hidden = d_logits·Wᵀ, d_weight = hiddenᵀ·d_logits, d_bias = Σ d_logits over rows
struct SoftmaxBackward {
  Tensor hidden;  // [N,H] Real
  const Weights& weights;
  Tensor d_logits;  // [N,V] Real
  Tensor d_hidden;  // [N,H] Real, overwritten
  Tensor d_weight;  // [H,V] Real, overwritten
  Tensor d_bias;    // [V] Real, overwritten
};

// to += from, element by element
struct Addition {
  Tensor to;    // Real or f64
  Tensor from;  // as many elements of the same type
};

// The gradient of one replica: rows of words for the embedding, one slab for all other parameters.
struct GradientView {
  Rows embedding;
  Tensor dense;  // [parameters without the embedding] Real
};

// norm = sqrt(Σ g²), in double. Fixed blocks of elements are summed, then the blocks in their
// order, so the result does not depend on the number of threads.
struct GradientNorm {
  GradientView gradient;
  Tensor norm;  // [1] f64, overwritten
};

// w -= learning_rate · max_norm / max(norm, max_norm) · g, with StepState's learning rate.
// If `loss` or `norm` is not finite, `failed` becomes 1 and stays 1; while it is 1 nothing is
// updated.
struct ClipStep {
  GradientView gradient;
  Tensor embedding;  // [V,H] Real
  Tensor dense;      // [parameters without the embedding] Real, in the gradient's order
  Tensor norm;       // [1] f64
  Tensor loss;       // [1] f64
  double max_norm = 0;
  Tensor failed;  // [1] i32
};

// --- ordering --------------------------------------------------------------------------------

// A point in the backend's queue of enqueued work; each backend has a kind of its own.
class RecordedEvent {
 public:
  virtual ~RecordedEvent() = default;
};
// Null: a point that is passed.
using Event = std::shared_ptr<const RecordedEvent>;

// A piece of a step with fixed arguments. A GPU captures it once per key and replays it.
struct SegmentKey {
  const void* owner = nullptr;  // the object that fixes the arguments: a batch or an Sgd
  int index = 0;                // which of its segments

  auto operator<=>(const SegmentKey&) const = default;
};

// The GPU of a rank, as its driver names it. All members are empty on the host's processor.
struct PhysicalDevice {
  std::string name{};       // "NVIDIA H200"
  std::string uuid{};       // "GPU-5f0c..."
  std::string bus_id{};     // "0000:3b:00.0", of its host
  std::int64_t memory = 0;  // bytes
  double peak_flops = 0;    // of products in the backend's precision; 0: not known

  static auto members(auto& self) {  // for base/archive.hpp
    auto& [name, uuid, bus_id, memory, peak_flops] = self;
    return std::tie(name, uuid, bus_id, memory, peak_flops);
  }
};

// The sizes on which a backend's own memory depends.
struct Extents {
  std::int64_t layers = 0, hidden = 0, vocab = 0;  // L, H, V
  CellKind cell = CellKind::lstm;
  std::vector<std::int64_t> lanes{};  // every B that occurs
  std::int64_t positions = 0;         // the largest T·B of a training window
};

// Copies between tensors and host memory, for sums over ranks in host memory. They run beside the
// backend's other work, which does not wait for them.
class HostCopies {
 public:
  virtual ~HostCopies() = default;

  // Page-locked memory. These copies may use no other host memory.
  virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
  // Begins after `ready`. `to` has the tensor's size; do not touch it before the returned event.
  virtual Event fetch(const Tensor& from, std::byte* to, const Event& ready) = 0;
  // The other direction; begins at once. Do not use the tensor before the returned event.
  virtual Event put(const std::byte* from, const Tensor& to) = 0;
};

// A small tensor on its way to the host: `values` are valid after `event`.
struct Arrival {
  std::shared_ptr<const std::byte> values;
  Event event;

  template <class T>
  std::span<const T> read(std::size_t count) const {
    return {reinterpret_cast<const T*>(values.get()), count};
  }
};

class Backend {
 public:
  virtual ~Backend() = default;

  // "cpu", "cuda", ...
  virtual std::string name() const = 0;
  // One line for the log: identity() and the number of threads.
  virtual std::string description() const = 0;
  // What must be equal on all ranks for their replicas to stay equal: precision, instruction set or
  // device model, versions of the numeric libraries.
  virtual std::string identity() const = 0;
  virtual PhysicalDevice device() const { return {}; }
  // Element type of parameters, gradients and activations.
  virtual ElementType real_type() const = 0;
  // Whether Tensor::raw() is a host address, which MPI may use after the enqueued work has ended.
  virtual bool has_host_memory() const = 0;
  // Null if has_host_memory(), or if the backend offers none.
  virtual HostCopies* host_copies() { return nullptr; }
  // About how many bytes the backend takes for itself, beside the tensors of allocate().
  virtual std::int64_t own_bytes(const Extents& extents) const = 0;
  // Bytes of the device's memory in use by all processes; 0 if it has no memory of its own.
  virtual std::int64_t device_bytes_in_use() const { return 0; }

  // Zeroed memory. Error 69 with the bytes wanted if there is not enough.
  virtual Tensor allocate(ElementType type, Shape shape) = 0;
  // Copies between host and device; sizes in bytes must be equal. They keep the order of enqueued
  // work, as set_zero does. `from` may be reused when upload returns. download waits for all
  // enqueued work; no other call makes the host wait.
  virtual void upload(const Tensor& to, std::span<const std::byte> from) = 0;
  virtual void download(const Tensor& from, std::span<std::byte> to) = 0;
  // A download of a few scalars without the wait: read them after the arrival's event.
  virtual Arrival begin_download(const Tensor& from);
  // How many steps may be in flight: enqueued, with results that the host has not read yet. So the
  // device has work while the host reads earlier results. The same on all ranks of a run.
  virtual int lag() const { return 0; }
  virtual void set_zero(const Tensor& tensor) = 0;

  // Updates the copies of the weights that this backend keeps, if their version has changed.
  virtual void prepare(const Weights& weights) = 0;
  virtual void set_step(const StepState& step) = 0;

  // Runs `segment`, or replays the graph that an earlier call with this key captured. A key must
  // therefore always come with the same operations and arguments, at addresses that live as long as
  // the backend. A segment must neither wait nor copy from or to the host.
  virtual void run_segment(SegmentKey key, const std::function<void()>& segment) = 0;
  virtual Event record() = 0;
  virtual void wait(const Event& event) = 0;  // later work waits for the event; the host does not
  virtual bool done(const Event& event) = 0;  // for a host that polls with a deadline of its own

  // Fills dropout.masks for the step's epoch and window (base/random.hpp); nothing if it is empty.
  virtual void draw_dropout(const Dropout& dropout) = 0;
  virtual void load_window(const WindowLoad&) = 0;
  virtual void embedding(const EmbeddingForward&) = 0;
  virtual void embedding_backward(const EmbeddingBackward&) = 0;
  virtual void stack(const StackForward&) = 0;
  virtual void stack_backward(const StackBackward&) = 0;
  virtual void layer_weight_gradient(const LayerWeightGradient&) = 0;
  virtual void softmax_loss(const SoftmaxLoss&) = 0;
  virtual void softmax_backward(const SoftmaxBackward&) = 0;
  virtual void add(const Addition&) = 0;
  virtual void gradient_norm(const GradientNorm&) = 0;
  virtual void clip_step(const ClipStep&) = 0;
};

struct BackendOptions {
  std::string name = "auto";       // auto | cpu | cuda
  std::string precision = "auto";  // auto | fp32 | tf32 | bf16
  int threads = 1;                 // of this rank, >= 1
  int host_rank = 0;               // rank among those of this host; device = host_rank mod devices
  bool captures_segments = true;   // false: run_segment enqueues each operation every time
};

// The backend of that name; "auto" is cuda if that is built and finds a device, else cpu. Error 69
// if the backend is not part of this build or finds no device, 2 if it lacks the precision.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

// Copies floats into a Real tensor of the same size, converting if Real is wider.
void upload_reals(Backend& backend, const Tensor& to, std::span<const float> from);

}  // namespace ptb
