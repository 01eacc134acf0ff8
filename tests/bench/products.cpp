// How fast the CPU backend's library multiplies the matrices of a model: the rate that training is
// measured against.
//
// Usage: ptb_dist_bench_products [--config small,medium,large] [--threads N] [--lanes B]
//            [--seconds S]
// For every product of a training window one row: its shape, how often a window has it, its share
// of the window's FLOP, and GFLOP/s plain and packed, medians over interleaved rounds. Then for
// every model one JSON line, which speed.py reads: all FLOP of a window over the time they need,
// each product done the faster way (the harmonic mean of the rates, weighted by FLOP).
// A product [m,k]·[k,n] counts 2·m·k·n. Packing itself is not timed: the rate is an upper bound.
// Expect 6 to 15 seconds a model, on cores that do nothing else. Exit status 0, or 2 for a wrong
// command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/products.hpp"
#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/error.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using Values = std::vector<float>;

constexpr int kFewestRounds = 3;
constexpr std::uint64_t kWeightVersion = 1;  // of weights that never change

// Which operand is a transpose of what is stored.
enum class Transposed { none, left, right };

// c [m,n] = a [m,k]·b [k,n], or c += a·b.
struct Shape {
  const char* name;
  std::int64_t m, k, n;
  std::int64_t layers = 1;  // a window has the product in each of them
  std::int64_t steps = 1;   // and so many times in a row, with the same b and another c
  Transposed transposed = Transposed::none;
  bool accumulate = false;

  // Weights are; what weight gradients multiply is new in every window.
  bool can_be_packed() const { return transposed != Transposed::left; }
  double flop() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n) *
           static_cast<double>(steps);
  }
  double window_flop() const { return flop() * static_cast<double>(layers); }
};

// The products of backend/cpu/{stack,softmax}.cpp for B lanes. Their FLOP are T·B times
// Plan::flops_per_word; the recurrence's last step backward, which the backend omits, is counted.
std::vector<Shape> shapes_of(const ptb::Config& config, std::int64_t B) {
  const std::int64_t T = config.num_steps, L = config.num_layers, H = config.hidden_size;
  const std::int64_t V = config.vocab_size, G = ptb::traits_of(ptb::CellKind::lstm).gates;
  const std::int64_t N = T * B;
  constexpr auto left = Transposed::left, right = Transposed::right;
  // clang-format off
  return {
      {.name = "input", .m = N, .k = H, .n = G * H, .layers = L},
      {.name = "recurrent", .m = B, .k = H, .n = G * H, .layers = L, .steps = T,
       .accumulate = true},
      {.name = "softmax", .m = N, .k = H, .n = V},
      {.name = "softmax d_hidden", .m = N, .k = V, .n = H, .transposed = right},
      {.name = "softmax d_weight", .m = H, .k = N, .n = V, .transposed = left},
      {.name = "recurrent d_h", .m = B, .k = G * H, .n = H, .layers = L, .steps = T,
       .transposed = right},
      {.name = "input d_x", .m = N, .k = G * H, .n = H, .layers = L, .transposed = right},
      {.name = "d_kernel", .m = H, .k = N, .n = G * H, .layers = 2 * L, .transposed = left},
  };
  // clang-format on
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Neither zeros nor denormals, which may be faster or slower than what training has.
Values some_values(std::int64_t count) {
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.01f * static_cast<float>(static_cast<int>(i * 7919 % 23) - 11);
  }
  return values;
}

// One product and its own matrices, run and timed as often as rounds ask for it.
class TimedProduct {
 public:
  TimedProduct(ptb::Products& products, const Shape& shape)
      : products_(products),
        shape_(shape),
        a_(some_values(shape.m * shape.k)),
        b_(some_values(shape.k * shape.n)),
        c_(static_cast<std::size_t>(shape.steps * shape.m * shape.n)) {
    run_plain();  // the first run makes the product, packs, and touches the memory
    if (shape_.can_be_packed()) run_packed();
  }

  void time() {
    plain_.push_back(seconds_of([this] { run_plain(); }));
    if (shape_.can_be_packed()) packed_.push_back(seconds_of([this] { run_packed(); }));
  }

  const Shape& shape() const { return shape_; }
  double plain_rate() const { return shape_.flop() / median(plain_); }
  double packed_rate() const { return packed_.empty() ? 0 : shape_.flop() / median(packed_); }
  double best_rate() const { return std::max(plain_rate(), packed_rate()); }

 private:
  template <class F>
  static double seconds_of(const F& run) {
    const Clock::time_point start = Clock::now();
    run();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  ptb::MatrixView left() const {
    const ptb::MatrixView stored{a_.data(), shape_.k, shape_.m};
    return shape_.transposed == Transposed::left ? stored.transpose()
                                                 : ptb::MatrixView{a_.data(), shape_.m, shape_.k};
  }
  ptb::MatrixView right() const {
    const ptb::MatrixView stored{b_.data(), shape_.n, shape_.k};
    return shape_.transposed == Transposed::right ? stored.transpose()
                                                  : ptb::MatrixView{b_.data(), shape_.k, shape_.n};
  }
  float* result(std::int64_t step) { return c_.data() + step * shape_.m * shape_.n; }

  void run_plain() {
    for (std::int64_t s = 0; s < shape_.steps; ++s) products_.multiply(left(), right(), result(s));
  }
  void run_packed() {
    for (std::int64_t s = 0; s < shape_.steps; ++s) {
      products_.multiply_packed(left(), {right(), kWeightVersion},
                                shape_.accumulate ? ptb::Into::add : ptb::Into::overwrite,
                                result(s));
    }
  }

  ptb::Products& products_;
  Shape shape_;
  Values a_, b_, c_;                    // c has all steps
  std::vector<double> plain_, packed_;  // seconds
};

struct Options {
  std::vector<std::string> configs{"small", "medium", "large"};
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  int lanes = 20;
  double seconds = 5;
};

void print_table(const std::vector<TimedProduct>& products, double window_flop) {
  fmt::print("{:<18}{:>22}{:>10}{:>8}{:>10}{:>10}\n", "product", "m x k x n", "a window", "FLOP %",
             "plain", "packed");
  for (const TimedProduct& product : products) {
    const Shape& shape = product.shape();
    fmt::print("{:<18}{:>22}{:>10}{:>8.1f}{:>10.1f}{:>10}\n", shape.name,
               fmt::format("{} x {} x {}", shape.m, shape.k, shape.n), shape.layers * shape.steps,
               100 * shape.window_flop() / window_flop, product.plain_rate() / 1e9,
               shape.can_be_packed() ? fmt::format("{:.1f}", product.packed_rate() / 1e9) : "-");
  }
}

// Measures one model, prints its table, and returns its JSON line.
std::string measure(const std::string& name, const Options& options) {
  const ptb::Config config = ptb::resolve_config(name, {}).values;
  const std::unique_ptr<ptb::Products> library =
      ptb::make_products(ptb::Precision::fp32, options.threads);
  std::vector<TimedProduct> products;
  for (const Shape& shape : shapes_of(config, options.lanes)) {
    products.emplace_back(*library, shape);
  }
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(options.seconds));
  int rounds = 0;
  for (; rounds < kFewestRounds || Clock::now() < end; ++rounds) {
    for (TimedProduct& product : products) product.time();
  }

  double flop = 0, seconds = 0;
  for (const TimedProduct& product : products) {
    flop += product.shape().window_flop();
    seconds += product.shape().window_flop() / product.best_rate();
  }
  fmt::print("\n{}: {} lanes, {} threads, {} rounds, {}; GFLOP/s\n", name, options.lanes,
             options.threads, rounds, ptb::products_library());
  print_table(products, flop);
  std::fflush(stdout);
  return fmt::format(R"({{"config":"{}","threads":{},"lanes":{},"gflops":{:.2f}}})", name,
                     options.threads, options.lanes, flop / seconds / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Matrix product rate of the CPU backend on the shapes of a model");
  app.add_option("--config", options.configs, "configurations, with commas")->delimiter(',');
  app.add_option("--threads", options.threads, "default: all cores")->check(CLI::Range(1, 4096));
  app.add_option("--lanes", options.lanes, "of one rank; default 20")->check(CLI::Range(1, 4096));
  app.add_option("--seconds", options.seconds, "of rounds, a model; default 5")
      ->check(CLI::Range(0.0, 3600.0));
  try {
    app.parse(argc, argv);
    std::vector<std::string> lines;
    for (const std::string& name : options.configs) lines.push_back(measure(name, options));
    for (const std::string& line : lines) fmt::print("{}\n", line);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const ptb::Error& error) {
    for (const std::string& line : error.lines()) {
      fmt::print(stderr, "ptb_dist_bench_products: {}\n", line);
    }
    return static_cast<int>(error.code());
  }
  return 0;
}
