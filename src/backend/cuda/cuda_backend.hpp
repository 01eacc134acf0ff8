// The backend of one GPU, in its own namespace, because the CPU's parts have the same names.
// real_type() is f32 in every precision. One file per operation group, as in backend/cpu: dropout,
// window, embedding, stack, softmax, optimizer.
//
// An operation may use several streams, so that independent layers and products run side by side.
// It begins and ends on the first stream, which orders the operations.
//
// Deterministic: no atomic additions; the shape fixes the order of every sum; each stream has a
// cuBLAS with a workspace of its own. Nothing that changes from step to step is an argument of a
// kernel, so a segment is captured once and replayed.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/device.hpp"
#include "backend/cuda/door.hpp"
#include "backend/cuda/handles.hpp"
#include "backend/cuda/host_copies.hpp"
#include "backend/cuda/queue.hpp"
#include "backend/cuda/scratch.hpp"
#include "backend/cuda/staging.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb::cuda {

class CudaBackend final : public Backend {
 public:
  // Uses the current device of the calling thread. Only this thread may call the backend.
  CudaBackend(Device device, Precision precision, bool captures_segments, const Overlap& overlap);

  std::string name() const override { return "cuda"; }
  std::string description() const override { return identity(); }
  std::string identity() const override;
  PhysicalDevice device() const override;
  std::int64_t own_bytes(const Extents& extents) const override;
  std::int64_t device_bytes_in_use() const override;
  ElementType real_type() const override { return ElementType::f32; }
  bool has_host_memory() const override { return false; }
  HostCopies* host_copies() override { return &host_copies_; }

  Tensor allocate(ElementType type, Shape shape) override;
  void upload(const Tensor& to, std::span<const std::byte> from) override;
  void download(const Tensor& from, std::span<std::byte> to) override;
  Arrival begin_download(const Tensor& from) override;
  // Two: the host may be late by a whole step before the device has no work.
  int lag() const override { return 2; }
  void set_zero(const Tensor& tensor) override;

  void prepare(const Weights& weights) override;
  void set_step(const StepState& step) override;
  void run_segment(SegmentKey key, const std::function<void()>& segment) override;
  Event record() override;
  void wait(const Event& event) override;
  bool done(const Event& event) override;

  void draw_dropout(const Dropout& dropout) override;
  void load_window(const WindowLoad&) override;
  void embedding(const EmbeddingForward&) override;
  void embedding_backward(const EmbeddingBackward&) override;
  void stack(const StackForward&) override;
  void stack_backward(const StackBackward&) override;
  void layer_weight_gradient(const LayerWeightGradient&) override;
  void softmax_loss(const SoftmaxLoss&) override;
  void softmax_backward(const SoftmaxBackward&) override;
  void add(const Addition&) override;
  void gradient_norm(const GradientNorm&) override;
  void clip_step(const ClipStep&) override;

 private:
  // The progress of a segment: run once, which allocates what it needs; then captured.
  struct CapturedSegment {
    bool has_run = false;
    GraphExec graph{};
  };

  cudaStream_t stream() const { return queues_.front().stream(); }
  Queue& queue(std::size_t index) { return queues_[index % queues_.size()]; }
  // fork: all other queues wait for the first. join: the first waits for all others.
  void fork();
  void join();
  // out[k] = Σ over rows of x [rows, columns], in double, in an order fixed by the shape.
  void sum_rows(const float* x, std::int64_t rows, std::int64_t columns, float* out,
                cudaStream_t stream);
  GraphExec capture(const std::function<void()>& segment);

  Device device_;
  Precision precision_;
  bool captures_segments_;
  Overlap overlap_;
  WeightCopies copies_;
  std::vector<Queue> queues_;
  Staging staging_;
  ArrivalPool arrivals_;
  std::shared_ptr<std::byte> step_;  // StepState
  Scratch d_h_, d_c_;                // [L,B,H] each, of the current step of each layer
  Scratch shared_operand_;           // [N,V] or [N,G·H] bf16, of products on several queues
  Scratch row_losses_;               // [N] f64
  Scratch square_sums_;              // [blocks] f64
  std::map<SegmentKey, CapturedSegment> segments_;
  EventPool events_;
  CudaHostCopies host_copies_;
};

}  // namespace ptb::cuda
