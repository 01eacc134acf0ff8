#include "ptb_dist/train/trainer.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

namespace ptb {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Trainer::Trainer(const TrainerParts& parts)
    : plan_(parts.plan),
      corpus_(parts.corpus),
      communicator_(parts.communicator),
      backend_(parts.backend),
      parameters_(parts.parameters),
      report_(parts.report),
      schedule_{.learning_rate = parts.config.learning_rate,
                .lr_decay = parts.config.lr_decay,
                .max_epoch = static_cast<int>(parts.config.max_epoch)},
      train_lanes_(corpus_.split(Split::train), plan_.global_lanes, plan_.num_steps, "train"),
      valid_lanes_(corpus_.split(Split::valid), static_cast<int>(parts.config.eval_lanes),
                   plan_.num_steps, "valid"),
      test_lanes_(corpus_.split(Split::test), 1, kTestSteps, "test", Remainder::keep),
      model_(backend_, parameters_),
      sgd_(backend_, parts.config.max_grad_norm),
      validation_(backend_, model_, parts.session, communicator_, plan_.model, valid_lanes_,
                  Evaluator::Sharing::lanes, "valid"),
      test_(backend_, model_, parts.session, communicator_, plan_.model, test_lanes_,
            Evaluator::Sharing::positions, "test"),
      slice_(plan_.lanes_of(parts.session.rank())),
      batch_(backend_, plan_.num_steps, slice_, plan_.max_rows),
      state_(backend_, plan_.model, slice_.count),
      workspace_(backend_, plan_.model,
                 {.max_steps = plan_.num_steps,
                  .lanes = slice_,
                  .softmax_rows = std::int64_t{plan_.num_steps} * slice_.count,
                  .for_training = true,
                  .keep_prob = parts.config.keep_prob,
                  .seed = static_cast<std::uint64_t>(parts.config.seed)}),
      gradients_(backend_, plan_.model, plan_.max_rows),
      loss_(backend_.allocate(ElementType::f64, {1})) {}

void Trainer::run(std::optional<std::int64_t> max_windows) {
  for (; progress_.epoch < plan_.epochs; ++progress_.epoch) {
    report_.epoch_begins(progress_.epoch, learning_rate(), plan_.windows_per_epoch);
    if (!train_epoch(max_windows)) {
      report_.line(fmt::format("Stopped as --max-windows asks, windows done: {}", progress_.step));
      return;
    }
    finish_epoch();
  }
  const Clock::time_point start = Clock::now();
  const Perplexity test = test_.run();
  report_.test(test, seconds_since(start), corpus_.perplexity_bound.value_or(0));
}

bool Trainer::train_epoch(std::optional<std::int64_t> last_step) {
  state_.reset(backend_);
  progress_ = {.epoch = progress_.epoch, .step = progress_.step};
  while (progress_.window < plan_.windows_per_epoch) {
    if (progress_.step >= last_step.value_or(progress_.step + 1)) return false;
    const Clock::time_point start = Clock::now();
    const StepResult result = train_step();
    progress_.seconds += seconds_since(start);
    check_finite(result);
    progress_.cross_entropy += result.cross_entropy;
    report_window(result);
    ++progress_.window;
    ++progress_.step;
  }
  return true;
}

Trainer::StepResult Trainer::train_step() {
  // 1. The next window of this rank's lanes, and what is particular to this step.
  train_lanes_.fill(window_, progress_.window, slice_, true);
  batch_.load(backend_, window_);
  backend_.set_step({progress_.epoch, progress_.window, learning_rate()});

  // 2. Forward: tokens to cross-entropy, its sum over the ranks under way.
  backend_.prepare(parameters_.weights());
  model_.forward(batch_, state_, workspace_, loss_);
  std::vector<Event> reductions{communicator_.all_reduce(loss_, backend_.record())};

  // 3. Backward, segment by segment; each part of the gradient leaves as soon as it is complete.
  int index = 0;
  for (const Segment& segment : model_.backward_segments(batch_, workspace_, gradients_)) {
    backend_.run_segment({&workspace_, index++}, segment.run);
    if (segment.completes.empty()) continue;
    reductions.push_back(communicator_.all_reduce(segment.completes, backend_.record()));
  }

  // 4. The gradient of the global batch, the same on every rank.
  for (const Event& reduction : reductions) communicator_.wait(reduction);

  // 5. Global-norm clip, and the step.
  sgd_.step(parameters_,
            {.rows = gradients_.rows().slice(0, batch_.word_count),
             .ids = batch_.words.slice(0, batch_.word_count),
             .dense = gradients_.dense()},
            loss_);

  // 6. What to report.
  return {download_scalar(backend_, loss_), download_scalar(backend_, sgd_.norm())};
}

void Trainer::finish_epoch() {
  const Clock::time_point start = Clock::now();
  const Perplexity valid = validation_.run();
  report_.epoch_ends({.epoch = progress_.epoch,
                      .step = progress_.step,
                      .learning_rate = learning_rate(),
                      .train = train_perplexity(progress_.window),
                      .valid = valid,
                      .seconds = progress_.seconds,
                      .valid_seconds = seconds_since(start),
                      .words_per_second = words_per_second(progress_.window)});
  // Gates saturate, so a model can be lost with a finite cost: e^cost is then more than a double.
  if (!std::isfinite(valid.value()))
    throw diverged(fmt::format("validation perplexity {}", valid.value()));
}

void Trainer::check_finite(const StepResult& result) const {
  if (std::isfinite(result.cross_entropy) && std::isfinite(result.gradient_norm)) return;
  throw diverged(fmt::format("loss {}, gradient norm {}", result.cross_entropy / plan_.global_lanes,
                             result.gradient_norm));
}

// Every rank has the same sums, so every rank leaves at the same place.
AgreedError Trainer::diverged(const std::string& why) const {
  return {ExitCode::diverged,
          Complaint{.what = "training diverged",
                    .where = fmt::format("epoch {}, window {}, step {}", progress_.epoch + 1,
                                         progress_.window, progress_.step),
                    .why = why,
                    .remedy = "lower --learning-rate, --max-grad-norm or --init-scale"}};
}

void Trainer::report_window(const StepResult& result) {
  const WindowRecord record{.epoch = progress_.epoch,
                            .window = progress_.window,
                            .step = progress_.step,
                            .loss = result.cross_entropy / plan_.global_lanes,
                            .gradient_norm = result.gradient_norm,
                            .learning_rate = learning_rate()};
  report_.window(record);
  if (!is_progress_window()) return;
  const int done = progress_.window + 1;
  const double speed = words_per_second(done);
  const double windows_left =
      static_cast<double>(plan_.windows_per_epoch) * (plan_.epochs - progress_.epoch) - done;
  report_.progress(
      {.window = record,
       .epoch_fraction = static_cast<double>(progress_.window) / plan_.windows_per_epoch,
       .train = train_perplexity(done),
       .seconds = progress_.seconds,
       .words_per_second = speed,
       .flops = plan_.flops_per_word * speed,
       .seconds_left = windows_left * progress_.seconds / done});
}

// The tutorial's rule; an epoch too short for it reports the last window of each tenth.
bool Trainer::is_progress_window() const {
  const int windows = plan_.windows_per_epoch;
  const int w = progress_.window;
  if (windows >= 110) return w % (windows / 10) == 10;
  return std::int64_t{w + 1} * 10 / windows > std::int64_t{w} * 10 / windows;
}

Perplexity Trainer::train_perplexity(int windows) const {
  return {.split = "train",
          .lanes = plan_.global_lanes,
          .predicted_tokens = std::int64_t{windows} * plan_.num_steps * plan_.global_lanes,
          .cross_entropy = progress_.cross_entropy};
}

double Trainer::words_per_second(int windows) const {
  return static_cast<double>(train_perplexity(windows).predicted_tokens) / progress_.seconds;
}

}  // namespace ptb
