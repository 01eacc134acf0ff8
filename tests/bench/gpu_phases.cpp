// How long each phase of a training step takes: forward, the segments of the backward pass, the
// step.
//
// Usage: ptb_dist_gpu_phases [--config small] [--lanes B] [--precision P] [--backend cuda]
//            [--repeats N] [--rounds N] [--set key=value]... [--piece N] [--queues N] [--mark]
// Prints a JSON line for each phase, which gpu.py reads: milliseconds, medians over rounds. A round
// is `repeats` times one and the same phase, enqueued at once (a GPU replays its graph) and awaited
// once. So waits and launches are hidden as far as the device hides them, and what a phase reads has
// just been used: the phases need not add up to a step. "all" is whole steps, enqueued in the same
// way, without a sum over ranks; its line has the loss and the norm of the gradient too.
// --piece and --queues (or PTB_DIST_PIECE and PTB_DIST_QUEUES) vary how the backend overlaps layers;
// a piece of 0 is the whole window.
// --mark is for a profiler: every phase once, enqueued kernel by kernel, behind a kernel that
// occurs nowhere else, add_elements<double>. It prints the phases in their order, without times.
// Words are drawn with p ~ 1/rank; the learning rate is 0, so that every round computes the same.
// Expect a second a configuration. Exit status 0, 2 for a wrong command line, 69 without a GPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend/cuda/door.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/stopwatch.hpp"
#include "ptb_dist/model/language_model.hpp"
#include "ptb_dist/optim/sgd.hpp"
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

class Step {
 public:
  Step(ptb::Backend& backend, const ptb::Config& config, int B)
      : backend_(backend),
        shape_(ptb::shape_of(config)),
        T_(static_cast<int>(config.num_steps)),
        slice_{.first = 0, .count = B, .global = B},
        tokens_(draw_tokens(std::int64_t{B} * (T_ + 1), shape_.vocab_size)),
        lanes_(tokens_, B, T_, {.split = "drawn"}),
        parameters_(backend, shape_),
        words_(backend, lanes_),
        gradients_(backend, shape_, words_.max_count),
        batch_(backend, lanes_, slice_, &words_),
        state_(backend, shape_, B),
        workspace_(backend, shape_,
                   {.max_steps = T_,
                    .lanes = B,
                    .softmax_rows = std::int64_t{T_} * B,
                    .for_training = true,
                    .keep_prob = config.keep_prob,
                    .seed = 1}),
        loss_(backend.allocate(ptb::ElementType::f64, {1})),
        mark_(backend.allocate(ptb::ElementType::f64, {2})),
        model_(backend, parameters_),
        sgd_(backend, config.max_grad_norm) {
    words_.select(0);
    batch_.select(0);
    parameters_.initialise(backend, config.init_scale, 1);
    backend.set_step({.epoch = 0, .window = 0, .learning_rate = 0});
  }

  // In the order of a step.
  struct Phase {
    std::string name;
    std::function<void()> run;
  };
  std::vector<Phase> phases() {
    std::vector<Phase> phases{
        {"copies of the weights",
         [this] {
           parameters_.touch();
           backend_.prepare(parameters_.weights());
         }},
        {"forward", [this] { model_.forward(batch_, state_, workspace_, loss_); }}};
    int number = 0;
    for (ptb::Segment& segment : model_.backward_segments(batch_, workspace_, gradients_)) {
      const ptb::SegmentKey key{.owner = &workspace_, .index = number++};
      phases.push_back({segment.name + ", backward", [this, key, run = std::move(segment.run)] {
                          backend_.run_segment(key, run);
                        }});
    }
    phases.push_back({"clip and step", [this] {
                        sgd_.step(parameters_,
                                  {.embedding = ptb::embedding_rows(words_, gradients_),
                                   .dense = gradients_.dense()},
                                  loss_);
                      }});
    return phases;
  }

  // Where a profiler shall see that a phase begins.
  void mark() { backend_.add({.to = mark_.slice(0, 1), .from = mark_.slice(1, 1)}); }

  // For all that was enqueued.
  void wait() { value(loss_); }
  double loss() { return value(loss_); }
  double norm() { return value(sgd_.norm()); }

 private:
  double value(const ptb::Tensor& of) {
    double value = 0;
    backend_.download(of, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  ptb::Backend& backend_;
  ptb::ModelShape shape_;
  int T_;
  ptb::LaneSlice slice_;
  std::vector<std::int32_t> tokens_;
  ptb::Lanes lanes_;
  ptb::Parameters parameters_;
  ptb::BatchWords words_;
  ptb::Gradients gradients_;
  ptb::Batch batch_;
  ptb::RecurrentState state_;
  ptb::Workspace workspace_;
  ptb::Tensor loss_;
  ptb::Tensor mark_;  // [2] f64, zero
  ptb::LanguageModel model_;
  ptb::Sgd sgd_;
};

void run_marked(Step& step) {
  for (const Step::Phase& phase : step.phases()) {
    step.mark();
    phase.run();
    std::printf(R"({"kind":"mark","phase":"%s"})"
                "\n",
                phase.name.c_str());
  }
  step.mark();
  step.wait();
}

void run_timed(Step& step, const Options& options) {
  std::vector<Step::Phase> phases = step.phases();
  phases.push_back({"all", [each = phases] {
                      for (const Step::Phase& phase : each) phase.run();
                    }});
  // The first time allocates, the second captures every graph; both leave what the phases read.
  for (int time = 0; time < 2; ++time) phases.back().run();

  std::vector<std::vector<double>> seconds(phases.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t k = 0; k < phases.size(); ++k) {
      step.wait();
      const ptb::Stopwatch watch;
      for (int repeat = 0; repeat < options.repeats; ++repeat) phases[k].run();
      step.wait();
      seconds[k].push_back(watch.seconds() / options.repeats);
    }
  }
  for (std::size_t k = 0; k < phases.size(); ++k) {
    const auto middle = seconds[k].begin() + options.rounds / 2;
    std::nth_element(seconds[k].begin(), middle, seconds[k].end());
    std::printf(R"({"kind":"phase","phase":"%s","milliseconds":%.5g)", phases[k].name.c_str(),
                1000 * *middle);
    if (k + 1 == phases.size()) {
      std::printf(R"(,"loss":%.17g,"norm":%.17g)", step.loss(), step.norm());
    }
    std::printf("}\n");
  }
  ptb::require(std::isfinite(step.loss()), "the loss is finite");
}

void measure(const Options& options) {
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
  Step step(*backend, config, options.lanes);
  if (options.is_marked) {
    run_marked(step);
  } else {
    run_timed(step, options);
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
  return ptb::bench::run_tool(app, argc, argv, [&] { measure(options); });
}
