#include "ptb_dist/io/report.hpp"

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/scratch.hpp"

using namespace ptb;
using namespace ptb::test;
using nlohmann::json;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// A perplexity of the given value, up to rounding.
Perplexity perplexity(const char* split, int lanes, std::int64_t tokens, double value) {
  return {split, lanes, tokens, std::log(value) * static_cast<double>(tokens)};
}

// A run's report in a folder of its own, and what it leaves there.
struct Written {
  std::string output, errors, log;
  std::vector<json> records;
};

Written written_by(const std::function<void(Report&)>& work, int metrics_windows = 1,
                   int loss_digits = 9) {
  const Scratch scratch;
  std::fflush(nullptr);
  const int saved_output = ::dup(STDOUT_FILENO);
  const int saved_errors = ::dup(STDERR_FILENO);
  const int flags = O_CREAT | O_WRONLY;
  const int output = ::open((scratch / "out").c_str(), flags, 0600);
  const int errors = ::open((scratch / "err").c_str(), flags, 0600);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  const RunDirectory directory(scratch / "run", "small", RunDirectory::Purpose::start);
  {
    Report report(directory, metrics_windows, loss_digits);
    work(report);
  }
  std::fflush(nullptr);
  ::dup2(saved_output, STDOUT_FILENO);
  ::dup2(saved_errors, STDERR_FILENO);
  for (const int descriptor : {output, errors, saved_output, saved_errors}) ::close(descriptor);

  Written result{
      content(scratch / "out"), content(scratch / "err"), content(directory.file("log.txt")), {}};
  std::istringstream lines(content(directory.file("metrics.jsonl")));
  for (std::string line; std::getline(lines, line);) result.records.push_back(json::parse(line));
  return result;
}

WindowRecord window(std::int64_t step, double loss) {
  return {.epoch = 1,
          .window = 240,
          .step = step,
          .loss = loss,
          .gradient_norm = 4.91,
          .learning_rate = 0.1};
}

ProgressRecord progress() {
  return {.window = window(2563, 94.25),
          .epoch_fraction = 0.1037,
          .train = perplexity("train", 20, 96'400, 841.122),
          .seconds = 10.57,
          .words_per_second = 9120.4,
          .flops = 143.2e9,
          .seconds_left = 750};
}

EpochRecord epoch() {
  return {.epoch = 0,
          .step = 2323,
          .learning_rate = 1.0,
          .train = perplexity("train", 20, 929'200, 270.123),
          .valid = perplexity("valid", 20, 73'600, 180.456),
          .seconds = 101.88,
          .valid_seconds = 2.07,
          .words_per_second = 9120};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(report)

BOOST_AUTO_TEST_CASE(lines_are_those_of_the_tutorial) {
  const Written written = written_by([](Report& report) {
    report.line("hello");
    report.epoch_begins(0, 1.0, 2323);
    report.progress(progress());
    report.epoch_ends(epoch());
    report.test(
        {.perplexity = perplexity("test", 1, 82'429, 115.123), .epoch = 12, .seconds = 9.84});
  });
  BOOST_TEST(written.output ==
             "hello\n"
             "Epoch: 1 Learning rate: 1.000\n"
             "0.104 perplexity: 841.122 speed: 9120 wps  grad norm: 4.91  left: 12m 30s"
             "  143 GFLOP/s\n"
             "Epoch: 1 Train Perplexity: 270.123"
             "  (train, 20 lanes, 929200 predicted tokens, 101.9 s, 9120 wps)\n"
             "Epoch: 1 Valid Perplexity: 180.456"
             "  (valid, 20 lanes, 73600 predicted tokens, 2.1 s)\n"
             "Test Perplexity: 115.123  (test, 1 lane, 82429 predicted tokens, 9.8 s)\n");
  BOOST_TEST(written.log == written.output);
  BOOST_TEST(written.errors == "");
}

BOOST_AUTO_TEST_CASE(the_best_weights_are_told_apart) {
  const Written written = written_by([](Report& report) {
    report.test({.perplexity = perplexity("test", 1, 99, 70), .weights = "best", .epoch = 8});
  });
  BOOST_TEST(written.output ==
             "Best epoch by validation: 9; its Test Perplexity: 70.000"
             "  (test, 1 lane, 99 predicted tokens, 0.0 s)\n");
  BOOST_TEST(written.records.at(0)["weights"] == "best");
  BOOST_TEST(written.records.at(0)["epoch"] == 8);
}

BOOST_AUTO_TEST_CASE(the_bound_of_a_source_is_told) {
  const Written written = written_by([](Report& report) {
    report.test({.perplexity = perplexity("test", 1, 99, 70), .bound = 61.34});
  });
  BOOST_TEST(written.log.find("No model can beat 61.3 on this source\n") != std::string::npos);
  BOOST_TEST(written.records.at(0)["perplexity_bound"] == 61.34);
}

BOOST_AUTO_TEST_CASE(unknown_and_extreme_numbers_stay_readable) {
  const auto line_of = [](const ProgressRecord& record) {
    return written_by([&](Report& report) { report.progress(record); }).output;
  };
  ProgressRecord record = progress();
  record.seconds_left = -1;
  record.flops = 0;
  record.train.cross_entropy = 100.0 * 96'400;
  BOOST_TEST(line_of(record) == "0.104 perplexity: 2.688e+43 speed: 9120 wps  grad norm: 4.91\n");
  record.train.cross_entropy = kNan;
  record.window.gradient_norm = kNan;
  BOOST_TEST(line_of(record) == "0.104 perplexity: nan speed: 9120 wps  grad norm: nan\n");

  const struct {
    double seconds;
    const char* text;
  } times[] = {{59.4, "59s"},       {59.6, "1m 00s"},   {3599.6, "1h 00m"}, {3900, "1h 05m"},
               {86399.9, "1d 00h"}, {273600, "3d 04h"}, {0, "0s"},          {1e300, "11574d 01h"}};
  for (const auto& [seconds, text] : times) {
    ProgressRecord timed = progress();
    timed.seconds_left = seconds;
    BOOST_TEST(line_of(timed).find(std::string("left: ") + text + "  ") != std::string::npos, text);
  }
  const struct {
    double flops;
    const char* text;
  } speeds[] = {{2.5e6, "  2.50 MFLOP/s\n"},
                {12.34e9, "  12.3 GFLOP/s\n"},
                {999.6e9, "  1.00 TFLOP/s\n"},
                {2e18, "  2000 PFLOP/s\n"}};
  for (const auto& [flops, text] : speeds) {
    ProgressRecord timed = progress();
    timed.flops = flops;
    BOOST_TEST(line_of(timed).find(text) != std::string::npos, line_of(timed));
  }
}

BOOST_AUTO_TEST_CASE(what_gpus_do_is_told_beside_what_they_could) {
  ProgressRecord record = progress();
  record.peak_flops = 989.4e12;
  record.flops = 123.4e12;
  EpochRecord end = epoch();
  end.device_bytes = 3'200'000'000;
  const Written written = written_by([&](Report& report) {
    report.progress(record);
    report.epoch_ends(end);
  });
  BOOST_TEST(written.output.find("  123 TFLOP/s (12.5 % of peak)\n") != std::string::npos,
             written.output);
  BOOST_TEST(written.records.at(0)["peak_flops"] == 989.4e12);
  BOOST_TEST(written.records.at(1)["device_bytes"] == 3'200'000'000);
  BOOST_TEST(!written.records.at(2).contains("device_bytes"));
}

BOOST_AUTO_TEST_CASE(records_hold_the_fields_of_the_contract) {
  const Written written = written_by([](Report& report) {
    report.window(window(2563, 94.25));
    report.progress(progress());
    report.epoch_ends(epoch());
    report.test(
        {.perplexity = perplexity("test", 1, 82'429, 115.123), .epoch = 12, .seconds = 9.84});
  });
  const json expected = json::parse(R"([
    {"kind": "window", "epoch": 1, "window": 240, "step": 2563, "loss": 94.25,
     "gradient_norm": 4.91, "learning_rate": 0.1},
    {"kind": "progress", "epoch": 1, "window": 240, "step": 2563, "loss": 94.25,
     "gradient_norm": 4.91, "learning_rate": 0.1, "split": "train", "lanes": 20,
     "predicted_tokens": 96400, "perplexity": 841.122, "seconds": 10.57,
     "words_per_second": 9120.4, "flops": 143.2e9},
    {"kind": "epoch", "epoch": 0, "step": 2323, "learning_rate": 1.0, "split": "train",
     "lanes": 20, "predicted_tokens": 929200, "perplexity": 270.123, "seconds": 101.88,
     "words_per_second": 9120.0},
    {"kind": "epoch", "epoch": 0, "step": 2323, "learning_rate": 1.0, "split": "valid",
     "lanes": 20, "predicted_tokens": 73600, "perplexity": 180.456, "seconds": 2.07},
    {"kind": "test", "weights": "final", "epoch": 12, "split": "test", "lanes": 1,
     "predicted_tokens": 82429, "perplexity": 115.123, "seconds": 9.84}])");
  BOOST_TEST(json(written.records) == expected, json(written.records).dump(1));
}

BOOST_AUTO_TEST_CASE(losses_have_the_digits_asked_for) {
  const double loss = 138.15510557964274;
  const auto loss_of = [&](int digits) {
    return written_by([&](Report& report) { report.window(window(0, loss)); }, 1, digits)
        .records.at(0)["loss"];
  };
  BOOST_TEST(loss_of(9).dump() == "138.155106");
  BOOST_TEST(loss_of(17).get<double>() == loss);
}

BOOST_AUTO_TEST_CASE(what_is_not_finite_becomes_null) {
  const Written written = written_by([](Report& report) {
    WindowRecord record = window(0, kNan);
    record.gradient_norm = std::numeric_limits<double>::infinity();
    report.window(record);
    EpochRecord diverged = epoch();
    diverged.valid.cross_entropy = -kNan;
    report.epoch_ends(diverged);
  });
  BOOST_TEST(written.records.at(0)["loss"].is_null());
  BOOST_TEST(written.records.at(0)["gradient_norm"].is_null());
  BOOST_TEST(written.records.at(2)["perplexity"].is_null());
}

BOOST_AUTO_TEST_CASE(windows_are_thinned_by_step) {
  const auto steps_of = [](int metrics_windows) {
    std::vector<int> steps;
    const auto work = [](Report& report) {
      for (int step = 7; step < 25; ++step) report.window(window(step, 1));
    };
    for (const json& record : written_by(work, metrics_windows).records) {
      steps.push_back(record["step"]);
    }
    return steps;
  };
  BOOST_TEST(steps_of(10) == (std::vector{10, 20}), boost::test_tools::per_element());
  BOOST_TEST(steps_of(1).size() == 18u);
  BOOST_TEST(steps_of(0).empty());
}

BOOST_AUTO_TEST_CASE(warnings_go_to_standard_error_and_the_log) {
  const Written written = written_by([](Report& report) { report.warning("slow"); });
  BOOST_TEST(written.errors == "ptb_dist: warning: slow\n");
  BOOST_TEST(written.log == written.errors);
  BOOST_TEST(written.output == "");
}

BOOST_AUTO_TEST_CASE(a_default_report_is_silent) {
  const Written written = written_by([](Report&) {
    Report silent;
    silent.line("x");
    silent.warning("x");
    silent.epoch_begins(0, 1, 10);
    silent.window(window(0, 1));
    silent.progress(progress());
    silent.epoch_ends(epoch());
    silent.test({.perplexity = perplexity("test", 1, 9, 1)});
  });
  BOOST_TEST(written.output + written.errors + written.log == "");
  BOOST_TEST(written.records.empty());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(progress_bar)

namespace {

struct OnTerminal {
  std::string seen;  // by who sits at the terminal
  std::string log;
};

// A short epoch in a child at a pseudo-terminal; under mpirun that is standard output alone.
OnTerminal at_terminal(const char* kind, bool with_errors) {
  const Scratch scratch;
  std::fflush(nullptr);
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::setenv("TERM", kind, 1);
    if (!with_errors) ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    {
      const RunDirectory directory(scratch / "run", "small", RunDirectory::Purpose::start);
      Report report(directory, 1, 9);
      report.epoch_begins(0, 1.0, 60);
      for (int step = 0; step < 30; ++step) {
        report.window({.window = step, .step = step, .loss = 94.25});
      }
      report.line("line");
    }
    ::_exit(0);
  }
  OnTerminal result;
  char buffer[4096];
  // Reading a terminal ends with EIO when its last user has gone.
  for (ssize_t count; (count = ::read(terminal, buffer, sizeof buffer)) > 0;) {
    result.seen.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(terminal);
  ::waitpid(child, nullptr, 0);
  result.log = content(scratch / "run/log.txt");
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(drawn_and_cleared_on_a_terminal) {
  const auto start = std::chrono::steady_clock::now();
  const OnTerminal result = at_terminal("xterm", true);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const std::string first =
      "Epoch: 1 Learning rate: 1.000\r\n"
      "\rEpoch: 1 [..............................] 1/60 loss 94.25\x1b[K";
  const std::string last = "\r\x1b[Kline\r\n";
  BOOST_TEST(result.seen.starts_with(first));
  BOOST_TEST(result.seen.ends_with(last));
  // Windows come faster than a person can read, so the bar is drawn at most once in a quarter of a
  // second: here once for 30 windows, unless the machine stood still in between.
  std::size_t drawings = 0;
  for (std::size_t at = 0; (at = result.seen.find("/60 loss", at)) != std::string::npos; ++at) {
    ++drawings;
  }
  BOOST_TEST(static_cast<double>(drawings) <= 1 + took.count() / 0.25);
  BOOST_TEST(result.log == "Epoch: 1 Learning rate: 1.000\nline\n");
}

BOOST_AUTO_TEST_CASE(plain_lines_under_mpirun_and_on_a_dumb_terminal) {
  const std::string plain = "Epoch: 1 Learning rate: 1.000\r\nline\r\n";
  BOOST_TEST(at_terminal("xterm", false).seen == plain);
  BOOST_TEST(at_terminal("dumb", true).seen == plain);
}

BOOST_AUTO_TEST_SUITE_END()
