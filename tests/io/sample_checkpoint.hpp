// A small run in its third epoch, and its checkpoint: the start of the tests of checkpoints.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/memory_backend.hpp"
#include "io/scratch.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb::test {

struct SampleRun {
  explicit SampleRun(ElementType real)
      : info(make_info(real)),
        backend(real),
        parameters(backend, info.shape()),
        state(make_host_state(info.state(), real)) {
    const auto count = static_cast<std::size_t>(parameters.slab().elements());
    backend.upload(parameters.slab(), reals(value, count));
    for (HostTensor& tensor : state) {
      const std::size_t layer = static_cast<std::size_t>(&tensor - state.data()) / 2;
      const bool is_h = tensor.name.ends_with("/h");
      std::vector<std::byte> all = reals(is_h ? h : c, kStateElements);  // [L,B,H]
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(layer * tensor.values.size());
      std::copy_n(begin, tensor.values.size(), tensor.values.begin());
    }
  }

  static constexpr std::size_t kStateElements = 3 * 4 * 3;  // [L,B,H]

  // Every mathematical key has another value than its default.
  static CheckpointInfo make_info(ElementType real) {
    CheckpointInfo info;
    Config& config = info.config;
    config.init_scale = 0.04;
    config.learning_rate = 0.7;
    config.max_grad_norm = 10;
    config.num_layers = 3;
    config.num_steps = 5;
    config.hidden_size = 3;
    config.max_epoch = 6;
    config.keep_prob = 0.35;
    config.lr_decay = 1 / 1.15;
    config.batch_size = 4;
    config.lane_groups = 2;
    config.vocab_size = 7;
    config.forget_bias = 0.25;
    config.seed = 9'007'199'254'740'993;  // no double
    config.eval_lanes = 2;
    info.corpus = {.words = {"the", "<eos>", "<unk>", "\xc3\xa9t\xc3\xa9", "N"},
                   .tokens = {170, 31, 17},
                   .digests = {std::string(32, 'a'), std::string(32, '0'),
                               "0123456789abcdef0123456789abcdef"}};
    info.progress = {.epoch = 2,
                     .window = 3,
                     .step = 19,
                     .cross_entropy = 0.1,
                     .history = {{.learning_rate = 0.7, .train = 6.5, .valid = 5.5},
                                 {.learning_rate = 0.35, .train = 5.25, .valid = 5.75}}};
    info.exact_class = {{"ranks", "2"}, {"library", "oneDNN 2.6, AVX2 = yes"}, {"note", ""}};
    info.real = real;
    return info;
  }

  // Element i of the parameters, of h and of c; all exact in 32 bits.
  static double value(std::size_t i) { return (static_cast<double>(i) - 50) / 8; }
  static double h(std::size_t i) { return static_cast<double>(i) / 64; }
  static double c(std::size_t i) { return -2 * static_cast<double>(i); }

  // Bytes of this run's type.
  std::vector<std::byte> reals(double (*element)(std::size_t), std::size_t count) const {
    return reals_of(info.real, element, count);
  }
  static std::vector<std::byte> reals_of(ElementType real, double (*element)(std::size_t),
                                         std::size_t count) {
    std::vector<double> wide(count);
    for (std::size_t i = 0; i < count; ++i) wide[i] = element(i);
    const std::vector<float> narrow(wide.begin(), wide.end());
    const auto bytes = real == ElementType::f64 ? std::as_bytes(std::span(wide))
                                                : std::as_bytes(std::span(narrow));
    return {bytes.begin(), bytes.end()};
  }

  std::vector<std::byte> image() {
    return sealed(checkpoint_image(info, state, backend, parameters));
  }
  void save(const std::filesystem::path& path) { put(path, text_of(image())); }

  static std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  CheckpointInfo info;
  MemoryBackend backend;
  Parameters parameters;
  HostState state;
};

inline Failure failure_of_reading(const std::filesystem::path& path) {
  return failure_of([&] { const CheckpointFile file(path); });
}

}  // namespace ptb::test
