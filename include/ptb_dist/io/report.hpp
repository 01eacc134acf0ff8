// What a run says: lines for people (the console and log.txt) and records for programs
// (metrics.jsonl). Every number is defined here and in src/io/README.md.
//
// A default-constructed Report is silent. All ranks but rank 0 have one, so the training loop does
// not ask for its rank.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ptb_dist/io/run_directory.hpp"

namespace ptb {

// A perplexity and what it averages: exp(cross_entropy / predicted_tokens).
struct Perplexity {
  const char* split = "";             // train | valid | test
  int lanes = 0;                      // global
  std::int64_t predicted_tokens = 0;  // over all lanes and ranks
  double cross_entropy = 0;           // summed, in nats

  double value() const;
};

// "Valid Perplexity: 119.500  (valid, 20 lanes, 73600 predicted tokens, 2.1 s)"
std::string perplexity_line(const Perplexity& perplexity, double seconds);

struct WindowRecord {
  int epoch = 0;             // from 0
  int window = 0;            // within the epoch, from 0
  std::int64_t step = 0;     // windows of the run done before this one
  double loss = 0;           // the window's cost: summed over time, averaged over global lanes
  double gradient_norm = 0;  // over all parameters, before the clip
  double learning_rate = 0;
};

struct ProgressRecord {
  WindowRecord window;          // the last one
  double epoch_fraction = 0;    // windows before it / windows of the epoch, as the tutorial prints
  Perplexity train;             // of this epoch so far
  double seconds = 0;           // of this epoch, training only
  double words_per_second = 0;  // global words of this epoch / seconds
  double flops = 0;             // of the model's products / seconds, over all ranks; 0: not known
  double peak_flops = 0;        // of all GPUs of the run together; 0: not known
  double seconds_left = 0;      // to the end of the run at this pace; < 0: not known
};

struct EpochRecord {
  int epoch = 0;
  std::int64_t step = 0;  // windows of the run done
  double learning_rate = 0;
  Perplexity train, valid;
  double seconds = 0;  // training
  double valid_seconds = 0;
  double words_per_second = 0;    // not finite: this process trained no window of the epoch
  std::int64_t device_bytes = 0;  // in use on the GPU of rank 0; 0: it has none
};

struct TestRecord {
  Perplexity perplexity;
  const char* weights = "final";  // final | best, by the validation perplexity
  int epoch = 0;                  // after which they had these values, from 0; < 0: at the start
  double seconds = 0;
  double bound = 0;  // > 0: the perplexity that no model can beat on this source
};

class Report {
 public:
  Report();  // silent
  // Opens log.txt and metrics.jsonl; a window record is written every `metrics_windows` windows, 0:
  // never. Losses, norms and perplexities have `loss_digits` significant digits in the records:
  // with 9 all floats are distinct, with 17 all doubles.
  // `progress` is the key of that name: auto, bar, lines or off.
  Report(const RunDirectory& directory, int metrics_windows, int loss_digits,
         const std::string& progress = "auto");
  ~Report();
  Report(Report&&) noexcept;
  Report& operator=(Report&&) noexcept;

  // A line for people, unchanged. The log gets the lines of standard output, but no progress bar.
  void line(const std::string& text);
  // "ptb_dist: warning: ..." on standard error and in the log.
  void warning(const std::string& text);
  // "ptb_dist: error: ..." in the log alone: program.cpp prints it. Does not throw, because the log
  // may be what failed.
  void error(const std::string& text) noexcept;

  // `windows` of the epoch are what the progress bar counts, where there is one.
  void epoch_begins(int epoch, double learning_rate, int windows);
  void window(const WindowRecord& record);
  void progress(const ProgressRecord& record);
  void epoch_ends(const EpochRecord& record);
  void test(const TestRecord& record);

  // Returns when all that was reported is on the disk. Called before a checkpoint is stored: a run
  // that resumes from it will not report this again. Any thread may call it.
  void sync() const;

 private:
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
};

}  // namespace ptb
