// What numerics_test.py compares: digests of what our own loops and operations compute from fixed
// numbers, and what else decides about bits on this machine. No matrix product is in them: how
// oneDNN cuts those may depend on the processor's caches.
//
//   ptb_dist_unit_digests     one JSON object: facts, and a digest for each part
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/loops.hpp"
#include "backend/cpu/products.hpp"
#include "io/files/digest.hpp"
#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/numerics.hpp"
#include "ptb_dist/base/random.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace {

using namespace ptb;

// Numbers of a part, as bytes that are digested at its end.
class Digest {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    const auto* const begin = reinterpret_cast<const std::byte*>(values.data());
    bytes_.insert(bytes_.end(), begin, begin + values.size() * sizeof(T));
  }
  void add(double value) { add(std::vector{value}); }
  std::string text() const { return digest_of({bytes_}); }

 private:
  std::vector<std::byte> bytes_;
};

// n values in [-scale, scale), scale being a power of two: then they are the same on any machine.
// Every bit of a float is used, so that the order of a sum shows.
std::vector<float> numbers(std::int64_t n, double scale, std::uint32_t stream) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double u = uniform_double(random_stream(5, Purpose::initialise, stream, i)[0]);
    values[i] = static_cast<float>(scale * (2 * u - 1));
  }
  return values;
}

// One vector, less, more, and what is left over, of every instruction set.
constexpr std::int64_t kLengths[] = {1, 5, 16, 33, 70, 1001};

std::string cell_forward() {
  Digest digest;
  for (const std::int64_t H : kLengths) {
    const std::vector<float> bias = numbers(4 * H, 1, 0), before = numbers(H, 2, 1);
    std::vector<float> z = numbers(4 * H, 8, 2), c(bias.size() / 4), h(c.size());
    loops::lstm_forward(H, 0.5f, bias.data(), z.data(), before.data(), c.data(), h.data());
    digest.add(z);
    digest.add(c);
    digest.add(h);
  }
  return digest.text();
}

std::string cell_backward() {
  Digest digest;
  for (const std::int64_t H : kLengths) {
    std::vector<float> gates = numbers(4 * H, 1, 3), d_c = numbers(H, 1, 4);
    const std::vector<float> before = numbers(H, 2, 5), c = numbers(H, 2, 6),
                             d_h = numbers(H, 1, 7);
    loops::lstm_backward(H, gates.data(), before.data(), c.data(), d_h.data(), d_c.data());
    digest.add(gates);
    digest.add(d_c);
  }
  return digest.text();
}

std::string softmax(float scale) {
  Digest digest;
  for (const std::int64_t V : kLengths) {
    const std::vector<float> bias = numbers(V, 1, 8);
    std::vector<float> logits = numbers(V, 8, 9);
    digest.add(
        loops::softmax_row(V, scale, bias.data(), static_cast<std::int32_t>(V / 2), logits.data()));
    digest.add(logits);
  }
  return digest.text();
}

std::string dropout() {
  Digest digest;
  const DropoutPosition at{.epoch = 3, .window = 7, .site = 1, .lane = 11, .time = 13};
  for (const std::int64_t n : kLengths) {
    std::vector<std::uint8_t> keep(static_cast<std::size_t>(n));
    loops::keep_masks(n, 0x123456789abcdef, at, keep_threshold(0.35), keep.data());
    const std::vector<float> from = numbers(n, 1, 10);
    std::vector<float> to = numbers(n, 1, 11), sum = to;
    loops::drop(n, 1 / 0.35f, keep.data(), from.data(), to.data());
    loops::add_dropped(n, 1 / 0.35f, keep.data(), from.data(), sum.data());
    digest.add(keep);
    digest.add(to);
    digest.add(sum);
  }
  return digest.text();
}

std::string sums() {
  Digest digest;
  for (const std::int64_t n : kLengths) {
    const std::vector<float> from = numbers(n, 1, 12);
    std::vector<float> to = numbers(n, 1, 13);
    std::vector<double> wide(to.begin(), to.end());
    loops::add_scaled(n, 0.3f, from.data(), to.data());
    loops::add_to_sums(n, from.data(), wide.data());
    digest.add(to);
    digest.add(wide);
    digest.add(loops::sum_of_squares(n, from.data()));
  }
  return digest.text();
}

// Ties, and what is no number or nearly too large for one.
std::string rounding() {
  Digest digest;
  for (const std::int64_t n : kLengths) {
    std::vector<float> from = numbers(n, 1, 14);
    const float special[] = {1.00390625f, 1.01171875f, 3.4e38f,
                             -3.4e38f,    1e-40f,      std::numeric_limits<float>::infinity()};
    for (std::size_t i = 0; i < from.size() && i < std::size(special); ++i) from[i] = special[i];
    std::vector<Bf16> to(static_cast<std::size_t>(padded(n)));
    loops::convert(n, from.data(), to.data());
    digest.add(to);
  }
  return digest.text();
}

std::vector<float> download(Backend& backend, const Tensor& from) {
  std::vector<float> values(static_cast<std::size_t>(from.elements()));
  backend.download(from, std::as_writable_bytes(std::span(values)));
  return values;
}

Tensor uploaded(Backend& backend, const std::vector<float>& values, Shape shape) {
  const Tensor tensor = backend.allocate(ElementType::f32, shape);
  backend.upload(tensor, std::as_bytes(std::span(values)));
  return tensor;
}

std::string initial_parameters() {
  const auto backend = make_backend({.name = "cpu", .threads = 1});
  Parameters parameters(*backend,
                        {.vocab_size = 31, .hidden_size = 7, .num_layers = 2, .cell = {}});
  parameters.initialise(*backend, 0.04, 9'007'199'254'740'993);
  Digest digest;
  digest.add(download(*backend, parameters.slab()));
  return digest.text();
}

// The norm over several blocks of both parts, and a step that it clips; with so many threads.
std::string norm_and_step(int threads) {
  const auto backend = make_backend({.name = "cpu", .threads = threads});
  constexpr std::int64_t V = 50, H = 130, U = 33, kDense = 21'001;
  std::vector<std::int32_t> ids(U);
  for (std::size_t u = 0; u < ids.size(); ++u) ids[u] = static_cast<std::int32_t>(u + u / 2);
  const std::int32_t count = U;
  const Rows rows{.packed = uploaded(*backend, numbers(U * H, 1, 14), {U, H}),
                  .ids = backend->allocate(ElementType::i32, {U}),
                  .count = backend->allocate(ElementType::i32, {1})};
  backend->upload(rows.ids, std::as_bytes(std::span(ids)));
  backend->upload(rows.count, std::as_bytes(std::span(&count, 1)));
  const GradientView gradient{.embedding = rows,
                              .dense = uploaded(*backend, numbers(kDense, 1, 15), {kDense})};
  const ClipStep step{.gradient = gradient,
                      .embedding = uploaded(*backend, numbers(V * H, 1, 16), {V, H}),
                      .dense = uploaded(*backend, numbers(kDense, 1, 17), {kDense}),
                      .norm = backend->allocate(ElementType::f64, {1}),
                      .loss = backend->allocate(ElementType::f64, {1}),
                      .max_norm = 5,
                      .failed = backend->allocate(ElementType::i32, {1})};
  backend->set_step({.epoch = 0, .window = 0, .learning_rate = 0.7});
  backend->gradient_norm({.gradient = gradient, .norm = step.norm});
  backend->clip_step(step);
  Digest digest;
  digest.add(*step.norm.data<double>());
  digest.add(download(*backend, step.embedding));
  digest.add(download(*backend, step.dense));
  return digest.text();
}

// Compilers differ in how they cut loops into vectors, and in what they fuse.
std::string compiler_of_this() {
  std::string text = "another compiler";
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
  text = fmt::format("GCC {}.{}.{} for x86-64", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
#if defined(__SSE3__) || defined(__FAST_MATH__)
  text += ", with options of its own";
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  text += ", sanitized";
#endif
  return text;
}

// log and exp have variants, too.
std::string mathematical_library() {
  std::string text = fmt::format("glibc {}", gnu_get_libc_version());
#if defined(__x86_64__)
  text += __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2") ? " (FMA)" : " (no FMA)";
#endif
  const char* tunables = std::getenv("GLIBC_TUNABLES");
  return tunables == nullptr ? text : fmt::format("{} {}", text, tunables);
}

}  // namespace

int main() {
  const std::pair<const char*, std::string> facts[] = {
      {"loops", loops::instruction_set()},
      {"products", products_library()},
      {"bf16", bf16_instructions()},
      {"compiler", compiler_of_this()},
      {"library", mathematical_library()},
      {"caches", fmt::format("{}+{}+{}", ::sysconf(_SC_LEVEL1_DCACHE_SIZE),
                             ::sysconf(_SC_LEVEL2_CACHE_SIZE), ::sysconf(_SC_LEVEL3_CACHE_SIZE))}};
  const std::pair<const char*, std::string> digests[] = {
      {"cell forward", cell_forward()},
      {"cell backward", cell_backward()},
      {"softmax", softmax(0)},
      {"softmax with gradient", softmax(0.05f)},
      {"dropout", dropout()},
      {"sums", sums()},
      {"rounding to bf16", rounding()},
      {"initial parameters", initial_parameters()},
      {"norm and step", norm_and_step(1)},
      {"norm and step of three threads", norm_and_step(3)}};
  std::string text = fmt::format("{{\"numerics\": {}", kNumerics);
  for (const auto& [name, value] : facts) text += fmt::format(",\n\"{}\": \"{}\"", name, value);
  text += ",\n\"digests\": {";
  for (const auto& [name, value] : digests) {
    text += fmt::format("{}\n\"{}\": \"{}\"", name == digests[0].first ? "" : ",", name, value);
  }
  std::puts((text + "}}").c_str());
}
