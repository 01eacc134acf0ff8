// The backend of the host's cores, in 32-bit floats. Work is done at once, in the calling thread
// and its OpenMP team, so events are always over. One file per operation group, in the order of
// backend.hpp: dropout, window, embedding, stack, softmax, optimizer.
#pragma once

#include "backend/cpu/products.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads);

  std::string name() const override { return "cpu"; }
  std::string description() const override;
  std::string identity() const override;
  ElementType real_type() const override { return ElementType::f32; }
  bool has_host_memory() const override { return true; }
  std::int64_t own_bytes(const Extents& extents) const override;

  Tensor allocate(ElementType type, Shape shape) override;
  void upload(const Tensor& to, std::span<const std::byte> from) override;
  void download(const Tensor& from, std::span<std::byte> to) override;
  void set_zero(const Tensor& tensor) override;

  void prepare(const Weights& weights) override;
  void set_step(const StepState& step) override { step_ = step; }
  void run_segment(SegmentKey, const std::function<void()>& segment) override { segment(); }
  Event record() override { return nullptr; }
  void wait(const Event&) override {}
  bool done(const Event&) override { return true; }

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
  // out[k] = Σ over rows of x [rows, columns], in row order whatever the threads.
  void sum_rows(const Tensor& x, const Tensor& out);

  int threads_;
  Products products_;
  StepState step_;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace ptb
