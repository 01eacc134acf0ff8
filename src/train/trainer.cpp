#include "ptb_dist/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace ptb {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

LaneGroup::LaneGroup(const TrainerParts& parts, LaneSlice slice)
    : lanes(slice),
      batch(parts.backend, parts.plan.num_steps, slice, parts.plan.max_rows),
      state(parts.backend, parts.plan.model, slice.count),
      workspace(parts.backend, parts.plan.model,
                {.max_steps = parts.plan.num_steps,
                 .lanes = slice,
                 .softmax_rows = std::int64_t{parts.plan.num_steps} * slice.count,
                 .for_training = true,
                 .keep_prob = parts.config.keep_prob,
                 .seed = static_cast<std::uint64_t>(parts.config.seed)}) {}

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
      group_(parts, plan_.lanes_of(parts.session.rank())),
      gradients_(backend_, plan_.model, plan_.max_rows),
      loss_(backend_.allocate(ElementType::f64, {1})) {}

void Trainer::run(std::optional<std::int64_t> max_windows) {
  const std::int64_t whole_run = std::int64_t{plan_.epochs} * plan_.windows_per_epoch;
  last_step_ = std::min(max_windows.value_or(whole_run), whole_run);
  while (progress_.step < last_step_) {
    begin_epoch();
    while (progress_.window < plan_.windows_per_epoch && progress_.step < last_step_) {
      advance_window();
    }
    if (progress_.step == max_windows) break;
    finish_epoch();
    ++progress_.epoch;
  }
  if (max_windows && *max_windows <= whole_run) {
    report_.line(fmt::format("Stopped as --max-windows asks; windows done: {}", progress_.step));
    return;
  }
  const Clock::time_point start = Clock::now();
  const Perplexity test = test_.run();
  report_.test(test, seconds_since(start), corpus_.perplexity_bound.value_or(0));
}

void Trainer::begin_epoch() {
  group_.state.reset(backend_);
  progress_ = {.epoch = progress_.epoch, .step = progress_.step};
  report_.epoch_begins(progress_.epoch, learning_rate(), plan_.windows_per_epoch);
}

void Trainer::advance_window() {
  const Clock::time_point start = Clock::now();
  train_step();
  const StepResult result = last_result();
  progress_.seconds += seconds_since(start);
  progress_.cross_entropy += result.cross_entropy;
  report_window(result);
  if (!std::isfinite(result.cross_entropy) || !std::isfinite(result.gradient_norm)) {
    throw diverged(fmt::format("epoch {}, window {}", progress_.epoch + 1, progress_.window),
                   fmt::format("loss {}, gradient norm {}",
                               result.cross_entropy / plan_.global_lanes, result.gradient_norm));
  }
  ++progress_.window;
  ++progress_.step;
}

void Trainer::train_step() {
  // 1. The next window of this rank's lanes, and what is particular to this step.
  train_lanes_.fill(group_.window, progress_.window, group_.lanes, true);
  group_.batch.load(backend_, group_.window);
  backend_.set_step({progress_.epoch, progress_.window, learning_rate()});

  // 2. Forward: tokens to cross-entropy, its sum over the ranks under way.
  backend_.prepare(parameters_.weights());
  model_.forward(group_.batch, group_.state, group_.workspace, loss_);
  std::vector<Reduction> sums{communicator_.all_reduce(loss_, backend_.record(), "the loss")};

  // 3. Backward, segment by segment; each part of the gradient leaves as soon as it is complete.
  int index = 0;
  for (const Segment& segment :
       model_.backward_segments(group_.batch, group_.workspace, gradients_)) {
    backend_.run_segment({&group_.workspace, index++}, segment.run);
    if (segment.completes.empty()) continue;
    sums.push_back(communicator_.all_reduce(segment.completes, backend_.record(), segment.name));
  }

  // 4. The gradient of the global batch, the same on every rank.
  for (const Reduction& sum : sums) communicator_.wait(sum);

  // 5. Global-norm clip, and the step.
  sgd_.step(parameters_,
            {.embedding = embedding_rows(group_.batch, gradients_), .dense = gradients_.dense()},
            loss_);
}

// The only place of a step where the host waits for the backend.
Trainer::StepResult Trainer::last_result() {
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
  if (!std::isfinite(valid.value())) {
    throw diverged(fmt::format("after epoch {}", progress_.epoch + 1),
                   fmt::format("validation perplexity {}", valid.value()));
  }
}

// Every rank has the same sums, so every rank leaves at the same place.
AgreedError Trainer::diverged(const std::string& when, const std::string& why) const {
  return {ExitCode::diverged,
          Complaint{.what = "training diverged",
                    .where = fmt::format("{}, step {}", when, progress_.step),
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
  const auto windows_left = static_cast<double>(last_step_ - progress_.step - 1);
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
