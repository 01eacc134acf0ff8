// How long each phase of a training step takes: forward, the segments of the backward pass, the
// step.
//
// Usage: ptb_dist_gpu_phases [--config small] [--lanes B] [--precision P] [--backend cuda]
//            [--repeats N] [--rounds N] [--set key=value]... [--piece N] [--queues N] [--mark]
// Prints a JSON line for each phase, which gpu.py reads: milliseconds, medians over rounds. A round
// is `repeats` times one and the same phase, enqueued at once (a GPU replays its graph) and awaited
// once. So waits and launches are hidden as far as the device hides them, and what a phase reads
// has just been used: the phases need not add up to a step. "all" is whole steps of the trainer,
// enqueued in the same way; its line has the loss and the norm of the gradient too.
// --piece and --queues (or PTB_DIST_PIECE and PTB_DIST_QUEUES) vary how the backend overlaps
// layers; a piece of 0 is the whole window.
// --mark is for a profiler: every phase once, enqueued kernel by kernel, behind a kernel that
// occurs nowhere else, add_elements<double>. It prints the phases in their order, without times.
// Words are drawn with p ~ 1/rank; the learning rate is 0, so that every round computes the same.
// Expect a second a configuration. Exit status 0, 2 for a wrong command line, 69 without a GPU.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend/cuda/door.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/stopwatch.hpp"
#include "ptb_dist/train/step.hpp"
#include "tool.hpp"

namespace {

struct Options {
  std::string config = "small", backend = "cuda", precision = "auto";
  std::vector<std::string> changes;  // key=value
  int lanes = 20;
  int repeats = 20;
  int rounds = 7;
  ptb::Overlap overlap{};
  bool is_marked = false;
};

ptb::Config config_of(const Options& options) {
  std::vector<std::pair<std::string, std::string>> overrides;
  for (const std::string& change : options.changes) {
    const std::size_t sign = change.find('=');
    overrides.emplace_back(change.substr(0, sign),
                           sign == std::string::npos ? "" : change.substr(sign + 1));
  }
  return ptb::resolve_config(options.config, overrides).values;
}

// Enough for one window of so many lanes: word ⌊V^u⌋ with u uniform in [0,1).
std::vector<std::int32_t> draw_tokens(std::int64_t count, std::int64_t V) {
  std::mt19937 random(1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens) {
    const double u = static_cast<double>(random()) / 4294967296.0;
    token = static_cast<std::int32_t>(std::pow(static_cast<double>(V), u)) - 1;
  }
  return tokens;
}

// The step of one rank, at the first window of a drawn text.
class Rig {
 public:
  Rig(ptb::Session& session, ptb::Backend& backend, const ptb::Config& config, int B)
      : backend_(backend),
        communicator_(ptb::make_communicator("single", session, backend)),
        tokens_(draw_tokens(std::int64_t{B} * (config.num_steps + 1), config.vocab_size)),
        lanes_(tokens_, B, static_cast<int>(config.num_steps), {.split = "drawn"}),
        parameters_(backend, ptb::shape_of(config)),
        step_({.backend = backend,
               .communicator = *communicator_,
               .parameters = parameters_,
               .split = lanes_,
               .groups = {{.first = 0, .count = B, .global = B}},
               .keep_prob = config.keep_prob,
               .seed = 1,
               .max_grad_norm = config.max_grad_norm}),
        mark_(backend.allocate(ptb::ElementType::f64, {2})) {
    parameters_.initialise(backend, config.init_scale, 1);
    step_.lane_groups().begin_window(kWindow);
  }

  std::vector<ptb::Step::Phase> phases() { return step_.phases(); }
  void run() { last_ = step_.run({.window = kWindow}); }
  ptb::StepResult result() { return step_.result(last_, "a step"); }

  // Where a profiler shall see that a phase begins.
  void mark() { backend_.add({.to = mark_.slice(0, 1), .from = mark_.slice(1, 1)}); }

  // For all that was enqueued.
  void wait() {
    std::array<double, 2> values{};
    backend_.download(mark_, std::as_writable_bytes(std::span(values)));
  }

 private:
  static constexpr ptb::StepState kWindow{.epoch = 0, .window = 0, .learning_rate = 0};

  ptb::Backend& backend_;
  std::unique_ptr<ptb::Communicator> communicator_;
  std::vector<std::int32_t> tokens_;
  ptb::Lanes lanes_;
  ptb::Parameters parameters_;
  ptb::Step step_;
  ptb::Step::InFlight last_;
  ptb::Tensor mark_;  // [2] f64, zero
};

void run_marked(Rig& rig) {
  for (const ptb::Step::Phase& phase : rig.phases()) {
    rig.mark();
    phase.enqueue();
    std::printf(R"({"kind":"mark","phase":"%s"})"
                "\n",
                phase.name.c_str());
  }
  rig.mark();
  rig.wait();
}

void run_timed(Rig& rig, const Options& options) {
  std::vector<ptb::Step::Phase> phases = rig.phases();
  phases.push_back({"all", [&rig] { rig.run(); }});
  // The first time allocates, the second captures every graph; both leave what the phases read.
  for (int time = 0; time < 2; ++time) rig.run();

  std::vector<std::vector<double>> seconds(phases.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t k = 0; k < phases.size(); ++k) {
      rig.wait();
      const ptb::Stopwatch watch;
      for (int repeat = 0; repeat < options.repeats; ++repeat) phases[k].enqueue();
      rig.wait();
      seconds[k].push_back(watch.seconds() / options.repeats);
    }
  }
  const ptb::StepResult result = rig.result();
  for (std::size_t k = 0; k < phases.size(); ++k) {
    const auto middle = seconds[k].begin() + options.rounds / 2;
    std::nth_element(seconds[k].begin(), middle, seconds[k].end());
    std::printf(R"({"kind":"phase","phase":"%s","milliseconds":%.5g)", phases[k].name.c_str(),
                1000 * *middle);
    if (k + 1 == phases.size()) {
      std::printf(R"(,"loss":%.17g,"norm":%.17g)", result.cross_entropy, result.gradient_norm);
    }
    std::printf("}\n");
  }
  ptb::require(std::isfinite(result.cross_entropy), "the loss is finite");
}

void measure(ptb::Session& session, const Options& options) {
  const ptb::Config config = config_of(options);
  ptb::Overlap overlap = options.overlap;
  if (overlap.piece == 0) overlap.piece = static_cast<int>(config.num_steps);
  const ptb::BackendOptions choice = {
      .name = options.backend,
      .precision = options.precision,
      .threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency())),
      .captures_segments = !options.is_marked};
  const auto backend = options.backend == "cuda" ? ptb::make_cuda_backend(choice, overlap)
                                                 : ptb::make_backend(choice);
  Rig rig(session, *backend, config, options.lanes);
  if (options.is_marked) {
    run_marked(rig);
  } else {
    run_timed(rig, options);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Milliseconds of each phase of a training step", "ptb_dist_gpu_phases");
  app.add_option("--config", options.config, "configuration, by name or file");
  app.add_option("--set", options.changes, "key=value of the configuration");
  app.add_option("--lanes", options.lanes, "default 20")->check(CLI::Range(1, 100'000));
  app.add_option("--backend", options.backend, "default cuda");
  app.add_option("--precision", options.precision, "fp32, tf32 or bf16; default: the backend's");
  app.add_option("--repeats", options.repeats, "in a round")->check(CLI::Range(1, 100'000));
  app.add_option("--rounds", options.rounds, "of the median")->check(CLI::Range(1, 10'000));
  app.add_option("--piece", options.overlap.piece, "steps that a layer passes on; 0: all")
      ->envname("PTB_DIST_PIECE")
      ->check(CLI::Range(0, 100'000));
  app.add_option("--queues", options.overlap.queues, "of the backend")
      ->envname("PTB_DIST_QUEUES")
      ->check(CLI::Range(1, 16));
  app.add_flag("--mark", options.is_marked, "each phase once, for a profiler; no times");
  return ptb::bench::run_tool(app, argc, argv, [&] {
    ptb::Session session(&argc, &argv);
    measure(session, options);
  });
}
