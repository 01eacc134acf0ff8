#include "ptb_dist/io/report.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "io/run_directory/json_api.hpp"
#include "io/run_directory/terminal.hpp"
#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

// --- numbers as people read them ---

// As in the tutorial, except that the 1e40 of an untrained model does not fill the line.
std::string perplexity_text(double value) {
  return value < 1e9 ? fmt::format("{:.3f}", value) : fmt::format("{:.3e}", value);
}

// "12m 30s", "1h 05m", "3d 04h"
std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::min(seconds, 1e9)));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d {:02}h", whole / 86400, whole / 3600 % 24);
}

// "143 GFLOP/s", "1.20 TFLOP/s"
std::string flops_text(double flops) {
  constexpr std::array units{"MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"};
  double value = flops / 1e6;
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < units.size(); ++unit) value /= 1000;
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, units[unit]);
}

// "valid, 20 lanes, 73600 predicted tokens, 2.1 s"
std::string definition(const Perplexity& perplexity, double seconds) {
  return fmt::format("{}, {} {}, {} predicted tokens, {:.1f} s", perplexity.split, perplexity.lanes,
                     perplexity.lanes == 1 ? "lane" : "lanes", perplexity.predicted_tokens,
                     seconds);
}

// "Test Perplexity", as in the tutorial
std::string title(const Perplexity& perplexity) {
  std::string split = perplexity.split;
  split.front() = static_cast<char>(std::toupper(split.front()));
  return split + " Perplexity";
}

// --- records as programs read them ---

using Record = Json;

// The nearest double with so many digits. JSON writes the shortest text that reads back as the same
// double, and null if it is not finite.
double rounded(double value, int digits) {
  return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

void add(Record& record, const WindowRecord& window, int digits) {
  record["epoch"] = window.epoch;
  record["window"] = window.window;
  record["step"] = window.step;
  record["loss"] = rounded(window.loss, digits);
  record["gradient_norm"] = rounded(window.gradient_norm, digits);
  record["learning_rate"] = window.learning_rate;
}

void add(Record& record, const Perplexity& perplexity, int digits) {
  record["split"] = perplexity.split;
  record["lanes"] = perplexity.lanes;
  record["predicted_tokens"] = perplexity.predicted_tokens;
  record["perplexity"] = rounded(perplexity.value(), digits);
}

// --- progress bar ---

// One line at the bottom of a terminal, redrawn in place.
class ProgressBar {
 public:
  explicit ProgressBar(bool is_wanted) : is_wanted_(is_wanted) {}

  void begin(int epoch, int windows) {
    epoch_ = epoch;
    windows_ = windows;
  }

  void draw(const WindowRecord& record) {
    const Clock::time_point now = Clock::now();
    if (now - drawn_at_ < kPause) return;
    drawn_at_ = now;
    if (!is_wanted_ || windows_ <= 0) {
      console::write_if_idle(console::Stream::out, "");  // offers the waiting lines again
      return;
    }
    const int done = std::min(record.window + 1, windows_);
    const auto filled = static_cast<std::size_t>(std::int64_t{kWidth} * done / windows_);
    std::string text = fmt::format("Epoch: {} [{:.<{}}] {}/{} loss {:.2f}", epoch_ + 1,
                                   std::string(filled, '='), kWidth, done, windows_, record.loss);
    // A line as wide as the terminal would wrap, and a carriage return would not reach its begin.
    text.resize(std::min(text.size(), columns_of_output() - 1));
    if (console::write_if_idle(console::Stream::out, "\r" + text + "\x1b[K")) is_drawn_ = true;
  }

  void clear() {
    if (!is_drawn_) return;
    console::write(console::Stream::out, "\r\x1b[K");
    is_drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPause = std::chrono::milliseconds(250);
  static constexpr int kWidth = 30;

  bool is_wanted_;
  bool is_drawn_ = false;
  int epoch_ = 0;
  int windows_ = 0;
  Clock::time_point drawn_at_{};
};

}  // namespace

double Perplexity::value() const {
  return std::exp(cross_entropy / static_cast<double>(predicted_tokens));
}

std::string perplexity_line(const Perplexity& perplexity, double seconds) {
  return fmt::format("{}: {}  ({})", title(perplexity), perplexity_text(perplexity.value()),
                     definition(perplexity, seconds));
}

struct Report::Sinks {
  LineFile log;
  LineFile metrics;
  int metrics_windows;
  int digits;
  bool has_progress_lines;
  ProgressBar bar;

  void line(const std::string& unescaped, bool is_for_the_log_alone = false) {
    const std::string text = one_line(unescaped);
    if (!is_for_the_log_alone) {
      bar.clear();
      console::write(console::Stream::out, text + '\n');
    }
    log.write(text);
  }
  void record(const Record& record) { metrics.write(record.dump()); }
};

Report::Report() = default;
Report::Report(const RunDirectory& directory, int metrics_windows, int loss_digits,
               const std::string& progress)
    : sinks_(new Sinks{
          .log = LineFile(directory.file("log.txt")),
          .metrics = LineFile(directory.file("metrics.jsonl")),
          .metrics_windows = metrics_windows,
          .digits = loss_digits,
          .has_progress_lines = progress != "off",
          .bar = ProgressBar(progress == "bar" || (progress == "auto" && is_at_a_terminal()))}) {}
Report::~Report() {
  if (sinks_) sinks_->bar.clear();
}
Report::Report(Report&&) noexcept = default;
Report& Report::operator=(Report&&) noexcept = default;

void Report::line(const std::string& text) {
  if (sinks_) sinks_->line(text);
}

void Report::warning(const std::string& text) {
  if (!sinks_) return;
  const std::string line = "ptb_dist: warning: " + one_line(text);
  sinks_->bar.clear();
  console::write(console::Stream::error, line + '\n');
  sinks_->log.write(line);
}

void Report::error(const std::string& text) noexcept {
  if (!sinks_) return;
  try {
    sinks_->bar.clear();
    sinks_->log.write("ptb_dist: error: " + one_line(text));
  } catch (const std::exception&) {
  }
}

void Report::epoch_begins(int epoch, double learning_rate, int windows) {
  if (!sinks_) return;
  sinks_->line(fmt::format("Epoch: {} Learning rate: {:.3f}", epoch + 1, learning_rate));
  sinks_->bar.begin(epoch, windows);
}

void Report::window(const WindowRecord& window) {
  if (!sinks_) return;
  if (sinks_->metrics_windows > 0 && window.step % sinks_->metrics_windows == 0) {
    Record record{{"kind", "window"}};
    add(record, window, sinks_->digits);
    sinks_->record(record);
  }
  sinks_->bar.draw(window);
}

void Report::progress(const ProgressRecord& progress) {
  if (!sinks_) return;
  std::string text = fmt::format("{:.3f} perplexity: {} speed: {:.0f} wps  grad norm: {:.3g}",
                                 progress.epoch_fraction, perplexity_text(progress.train.value()),
                                 progress.words_per_second, progress.window.gradient_norm);
  if (progress.seconds_left >= 0) text += "  left: " + duration_text(progress.seconds_left);
  if (progress.flops > 0) text += "  " + flops_text(progress.flops);
  if (progress.peak_flops > 0) {
    text += fmt::format(" ({:.1f} % of peak)", 100 * progress.flops / progress.peak_flops);
  }
  sinks_->line(text, !sinks_->has_progress_lines);

  Record record{{"kind", "progress"}};
  add(record, progress.window, sinks_->digits);
  add(record, progress.train, sinks_->digits);
  record["seconds"] = progress.seconds;
  record["words_per_second"] = progress.words_per_second;
  record["flops"] = progress.flops;
  if (progress.peak_flops > 0) record["peak_flops"] = progress.peak_flops;
  sinks_->record(record);
}

void Report::epoch_ends(const EpochRecord& epoch) {
  if (!sinks_) return;
  const std::string speed = std::isfinite(epoch.words_per_second)
                                ? fmt::format(", {:.0f} wps", epoch.words_per_second)
                                : "";
  sinks_->line(fmt::format("Epoch: {} {}: {}  ({}{})", epoch.epoch + 1, title(epoch.train),
                           perplexity_text(epoch.train.value()),
                           definition(epoch.train, epoch.seconds), speed));
  sinks_->line(fmt::format("Epoch: {} {}", epoch.epoch + 1,
                           perplexity_line(epoch.valid, epoch.valid_seconds)));

  // One flat record for each split, so that each column is a curve.
  const Record common{{"kind", "epoch"},
                      {"epoch", epoch.epoch},
                      {"step", epoch.step},
                      {"learning_rate", epoch.learning_rate}};
  Record train = common;
  add(train, epoch.train, sinks_->digits);
  train["seconds"] = epoch.seconds;
  train["words_per_second"] = epoch.words_per_second;
  if (epoch.device_bytes > 0) train["device_bytes"] = epoch.device_bytes;
  sinks_->record(train);
  Record valid = common;
  add(valid, epoch.valid, sinks_->digits);
  valid["seconds"] = epoch.valid_seconds;
  sinks_->record(valid);
}

void Report::sync() const {
  if (!sinks_) return;
  sinks_->log.sync();
  sinks_->metrics.sync();
}

void Report::test(const TestRecord& test) {
  if (!sinks_) return;
  const bool is_best = std::string_view(test.weights) == "best";
  const std::string whose =
      is_best ? fmt::format("Best epoch by validation: {}; its ", test.epoch + 1) : "";
  sinks_->line(whose + perplexity_line(test.perplexity, test.seconds));
  Record record{{"kind", "test"}, {"weights", test.weights}};
  if (test.epoch >= 0) record["epoch"] = test.epoch;
  add(record, test.perplexity, sinks_->digits);
  if (test.bound > 0) {
    sinks_->line(fmt::format("No model can beat {:.1f} on this source", test.bound));
    record["perplexity_bound"] = test.bound;
  }
  record["seconds"] = test.seconds;
  sinks_->record(record);
}

}  // namespace ptb
