// A backend that only holds memory, with reals of either width: all that a parameter file needs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb::test {

class MemoryBackend : public Backend {
 public:
  explicit MemoryBackend(ElementType real) : real_(real) {}

  std::string name() const override { return "memory"; }
  std::string description() const override { return "memory"; }
  std::string identity() const override { return "memory"; }
  bool has_host_memory() const override { return true; }
  ElementType real_type() const override { return real_; }
  std::int64_t own_bytes(const Extents&) const override { return 0; }

  Tensor allocate(ElementType type, Shape shape) override {
    const auto bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
    std::shared_ptr<std::byte> memory(new std::byte[bytes](), std::default_delete<std::byte[]>());
    return {memory, type, shape};
  }
  void upload(const Tensor& to, std::span<const std::byte> from) override {
    require(to.bytes() == from.size(), "sizes agree");
    std::ranges::copy(from, static_cast<std::byte*>(to.raw()));
  }
  void download(const Tensor& from, std::span<std::byte> to) override {
    require(from.bytes() == to.size(), "sizes agree");
    std::copy_n(static_cast<const std::byte*>(from.raw()), to.size(), to.data());
  }
  void set_zero(const Tensor& tensor) override {
    std::fill_n(static_cast<std::byte*>(tensor.raw()), tensor.bytes(), std::byte{0});
  }

  void prepare(const Weights&) override { refuse(); }
  void set_step(const StepState&) override { refuse(); }
  void run_segment(SegmentKey, const std::function<void()>&) override { refuse(); }
  Event record() override { return nullptr; }
  void wait(const Event&) override {}
  bool done(const Event&) override { return true; }
  void draw_dropout(const Dropout&) override { refuse(); }
  void load_window(const WindowLoad&) override { refuse(); }
  void embedding(const EmbeddingForward&) override { refuse(); }
  void embedding_backward(const EmbeddingBackward&) override { refuse(); }
  void stack(const StackForward&) override { refuse(); }
  void stack_backward(const StackBackward&) override { refuse(); }
  void layer_weight_gradient(const LayerWeightGradient&) override { refuse(); }
  void softmax_loss(const SoftmaxLoss&) override { refuse(); }
  void softmax_backward(const SoftmaxBackward&) override { refuse(); }
  void add(const Addition&) override { refuse(); }
  void gradient_norm(const GradientNorm&) override { refuse(); }
  void clip_step(const ClipStep&) override { refuse(); }

 private:
  static void refuse() { require(false, "this backend only holds memory"); }

  ElementType real_;
};

}  // namespace ptb::test
