// The backend of the host's cores, in 32-bit floats; with precision bf16 the operands of its matrix
// products are rounded to bf16, all else stays. Work is done at once, in the calling thread and its
// OpenMP team, so events are always over. One file per operation group, in the order of
// backend.hpp: dropout, window, embedding, stack, softmax, optimizer.
#pragma once

#include "backend/cpu/products.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb {

class CpuBackend final : public Backend {
 public:
  // `products` work with as many threads.
  CpuBackend(int threads, std::unique_ptr<Products> products);

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
  // Room for the bf16 operands of products, which grows; in other precisions there are none.
  class Operands {
   public:
    explicit Operands(Precision precision) : precision_(precision) {}
    // Of a matrix whose rows are padded(columns) apart; null in other precisions.
    Bf16* get(std::int64_t rows, std::int64_t columns);

   private:
    Precision precision_;
    Bf16Buffer values_{};
  };

  // out[k] = Σ over rows of x, in row order whatever the threads; and x as converted() has it, in
  // the same pass.
  MatrixView sum_rows(const MatrixView& x, Operands& operands, const Tensor& out) const;

  int threads_;
  std::unique_ptr<Products> products_;
  Operands hidden_, outputs_;               // of the layer in hand, forward
  Operands d_gates_, d_shares_, d_logits_;  // backward
  StepState step_;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace ptb
