#include "ptb_dist/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ptb_dist/base/stop.hpp"
#include "ptb_dist/base/stopwatch.hpp"

namespace ptb {
Trainer::Trainer(const TrainerParts& parts, const Progress& from)
    : work_(parts.work),
      backend_(parts.backend),
      replica_(parts.replica),
      step_(replica_.step()),
      report_(parts.report),
      saver_(parts.saver),
      faults_(parts.faults),
      perplexity_bound_(parts.perplexity_bound),
      peak_flops_(parts.peak_flops),
      saves_(parts.config.keep_checkpoints > 0),
      checkpoint_windows_(parts.config.checkpoint_windows),
      schedule_{.learning_rate = parts.config.learning_rate,
                .lr_decay = parts.config.lr_decay,
                .max_epoch = static_cast<int>(parts.config.max_epoch)},
      progress_(from) {
  if (from != Progress{}) saved_ = from;
}

Trainer::End Trainer::run(std::optional<std::int64_t> max_windows) {
  const std::int64_t limit = max_windows.value_or(std::numeric_limits<std::int64_t>::max());
  last_step_ = std::min(limit, std::int64_t{work_.epochs} * work_.windows_per_epoch);
  while (progress_.epoch < work_.epochs && progress_.step < limit) {
    begin_epoch();
    while (progress_.window < work_.windows_per_epoch && progress_.step < limit) {
      const Requests requests = advance();
      if (requests.stop) return leave(End::stopped);
      // An epoch's last window is saved after its validation, which belongs to the epoch.
      const bool is_epoch_over = progress_.window == work_.windows_per_epoch;
      if (requests.save && !is_epoch_over) save(false);
    }
    if (progress_.step >= limit) return leave(End::at_max_windows);
    if (!finish_epoch()) return leave(End::stopped);
  }
  if (progress_.epoch < work_.epochs) return leave(End::at_max_windows);
  return test("final", progress_.epoch - 1);
}

void Trainer::begin_epoch() {
  if (progress_.window == 0) step_.lane_groups().reset_state();
  pace_.begin_epoch();
  report_.epoch_begins(progress_.epoch, learning_rate(), work_.windows_per_epoch);
}

Trainer::End Trainer::leave(End end) {
  if (saved_ != progress_) save(false);
  saver_.finish();
  if (end == End::at_max_windows) {
    report_.line(fmt::format("Stopped by --max-windows; windows done: {}", progress_.step));
  } else {
    const std::string reason = stop_reason().empty() ? "a signal to another rank" : stop_reason();
    report_.line(fmt::format("Stopped by {}; windows done: {}; {}", reason, progress_.step,
                             saves_ ? "resume with --resume auto"
                                    : "nothing was saved, because --keep-checkpoints is 0"));
  }
  return end;
}

// Begins a window and takes the results that are due: those of windows further back than the
// backend's lag. If the run must pause, all are due: at the end of an epoch or of the run, for a
// save, for a stop. Every rank takes the same results, so all ranks pause or end at the same
// window.
Requests Trainer::advance() {
  faults_.at(Fault::Phase::train, next_step());
  in_flight_.push_back(step_.run({
      .window = {progress_.epoch, next_window(), learning_rate()},
      .requests = {.stop = is_stop_requested(), .save = saver_.wants_save()},
      .spoils_loss = faults_.spoils(next_step()),
  }));
  const bool is_last = next_window() == work_.windows_per_epoch || next_step() == last_step_;
  Requests requests{.save = checkpoint_windows_ > 0 && next_step() % checkpoint_windows_ == 0};
  take_results(is_last || requests.save ? 0 : backend_.lag(), requests);
  if (requests.stop || requests.save) take_results(0, requests);
  return requests;
}

void Trainer::take_results(int left_in_flight, Requests& requests) {
  while (std::ssize(in_flight_) > left_in_flight) take_oldest(requests);
}

// In training the host waits for the backend only here.
void Trainer::take_oldest(Requests& requests) {
  const Step::InFlight oldest = std::move(in_flight_.front());
  in_flight_.pop_front();
  const StepResult result =
      step_.result(oldest, fmt::format("the loss of window {}", progress_.window));
  requests.stop = requests.stop || result.requests.stop;
  requests.save = requests.save || result.requests.save;
  longest_window_ = std::max(longest_window_.load(), pace_.window_done());
  progress_.cross_entropy += result.cross_entropy;
  report_window(result);
  if (!std::isfinite(result.cross_entropy) || !std::isfinite(result.gradient_norm)) {
    throw diverged(fmt::format("epoch {}, window {}", progress_.epoch + 1, progress_.window),
                   fmt::format("loss {}, gradient norm {}",
                               result.cross_entropy / work_.global_lanes, result.gradient_norm));
  }
  ++progress_.window;
  ++progress_.step;
}

void Trainer::save(bool is_best) {
  if (saves_) saver_.save(progress_, step_.lane_groups().groups(), is_best);
  saved_ = progress_;
  pace_.skip();
}

bool Trainer::finish_epoch() {
  faults_.at(Fault::Phase::validation, progress_.step);
  const Stopwatch watch;
  const std::optional<Perplexity> valid = replica_.validation().run();
  if (!valid) return false;
  const Perplexity train = train_perplexity(progress_.window);
  report_.epoch_ends({.epoch = progress_.epoch,
                      .step = progress_.step,
                      .learning_rate = learning_rate(),
                      .train = train,
                      .valid = *valid,
                      .seconds = pace_.seconds(),
                      .valid_seconds = watch.seconds(),
                      .words_per_second = words_per_second(),
                      .device_bytes = backend_.device_bytes_in_use()});
  // Gates saturate, so a diverged model may have a finite cost; e^cost then overflows a double.
  if (!std::isfinite(valid->value())) {
    throw diverged(fmt::format("after epoch {}", progress_.epoch + 1),
                   fmt::format("validation perplexity {}", valid->value()));
  }
  progress_.history.push_back(
      {.learning_rate = learning_rate(), .train = train.value(), .valid = valid->value()});
  ++progress_.epoch;
  progress_.window = 0;
  progress_.cross_entropy = 0;
  step_.lane_groups().reset_state();
  save(progress_.best_epoch() == progress_.epoch - 1);
  return true;
}

Trainer::End Trainer::test(const char* weights, int epoch) {
  faults_.at(Fault::Phase::test, progress_.step);
  const Stopwatch watch;
  const std::optional<Perplexity> result = replica_.test().run();
  if (!result) return leave(End::stopped);
  report_.test({.perplexity = *result,
                .weights = weights,
                .epoch = epoch,
                .seconds = watch.seconds(),
                .bound = perplexity_bound_});
  return End::finished;
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
                            .loss = result.cross_entropy / work_.global_lanes,
                            .gradient_norm = result.gradient_norm,
                            .learning_rate = learning_rate()};
  report_.window(record);
  if (!is_progress_window()) return;
  const int done = progress_.window + 1;
  const double speed = words_per_second();
  const auto windows_left = static_cast<double>(last_step_ - progress_.step - 1);
  report_.progress(
      {.window = record,
       .epoch_fraction = static_cast<double>(progress_.window) / work_.windows_per_epoch,
       .train = train_perplexity(done),
       .seconds = pace_.seconds(),
       .words_per_second = speed,
       .flops = work_.flops_per_word * speed,
       .peak_flops = peak_flops_,
       .seconds_left = pace_.seconds_for(windows_left)});
}

// The tutorial's rule. An epoch that is too short for it reports the last window of each tenth.
bool Trainer::is_progress_window() const {
  const int windows = work_.windows_per_epoch;
  const int w = progress_.window;
  if (windows >= 110) return w % (windows / 10) == 10;
  return std::int64_t{w + 1} * 10 / windows > std::int64_t{w} * 10 / windows;
}

std::int64_t Trainer::words(int windows) const {
  return std::int64_t{windows} * work_.num_steps * work_.global_lanes;
}

double Trainer::words_per_second() const { return pace_.per_second(static_cast<double>(words(1))); }

Perplexity Trainer::train_perplexity(int windows) const {
  return {.split = "train",
          .lanes = work_.global_lanes,
          .predicted_tokens = words(windows),
          .cross_entropy = progress_.cross_entropy};
}

}  // namespace ptb
