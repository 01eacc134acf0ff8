#include "ptb_dist/program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "commands/commands.hpp"
#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/base/stop.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/run/inputs.hpp"

namespace ptb {
namespace {

void print_error(const Error& error, const std::string& who) {
  for (const std::string& line : error.lines()) {
    console::write(console::Stream::error,
                   fmt::format("ptb_dist: error: {}\n", one_line(who + line)));
  }
}

// The loader calls this when it has loaded the libraries, before any of them runs. It also calls
// two functions of handler_stacks.cpp and base/openmp_environment.cpp, in the order of linking.
// That order does not matter, because the three are independent.
void before_main(int, char**, char**) {
  block_stop_signals();
  console::fill_gaps();
}
using BeforeMain = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] const BeforeMain call_before_main = before_main;

int run(Session& session, const std::vector<std::string>& arguments, const Factories& factories) {
  require_same_build(session);
  const CommandLine line = agreed_command_line(session, arguments);
  session.set_timeout(Session::Seconds(line.config.values.timeout));
  if (line.action != CommandLine::Action::train) release_stop_signals();
  switch (line.action) {
    case CommandLine::Action::print_text:
      session.on_root([&] { print_text(line.text); });
      return 0;
    case CommandLine::Action::config:
      session.on_root([&] { print_text(to_toml(line.config)); });
      return 0;
    case CommandLine::Action::checkpoint:
      return checkpoint_command(session, line);
    case CommandLine::Action::eval:
      return eval_command(session, line, factories);
    case CommandLine::Action::dry_run:
    case CommandLine::Action::train:
      break;
  }
  return train_command(session, line, factories);
}

// Before MPI knows the ranks, all tasks of a Slurm step would print the same line; only task 0
// does. But each task reports what its own machine lacks.
bool tells_for_its_launch(const Error& error) {
  const char* task = std::getenv("SLURM_PROCID");
  return error.code() != ExitCode::usage || task == nullptr || std::string_view(task) == "0";
}

int run_in_session(int argc, char** argv, const Factories& factories) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  try {
    catch_stop_signals();
    Session session(&argc, &argv);
    // An error that all ranks have is printed once, and all ranks leave together. Any other error
    // may be that of one rank while the others wait for it, so it ends all ranks.
    const std::string who =
        session.size() == 1 ? "" : fmt::format("rank {} ({}): ", session.rank(), session.host());
    const auto end_all = [&](const Error& error) {
      print_error(error, who);
      session.abort(error.code());
      return static_cast<int>(error.code());
    };
    try {
      return run(session, arguments, factories);
    } catch (const AgreedError& error) {
      if (session.is_root()) print_error(error, "");
      return static_cast<int>(error.code());
    } catch (...) {
      return end_all(error_in_flight());
    }
  } catch (...) {  // MPI or a thread could not be started
    const Error error = error_in_flight();
    if (tells_for_its_launch(error)) print_error(error, "");
    return static_cast<int>(error.code());
  }
}

}  // namespace

int run_program(int argc, char** argv, const Factories& factories) {
  constexpr auto kLastWords = std::chrono::seconds(2);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an I/O error like a full disk
  std::signal(SIGPIPE, SIG_IGN);  // the run and its log continue when standard output is closed
  const int status = run_in_session(argc, argv, factories);
  console::finish(kLastWords);  // here no other rank waits for this one
  return status;
}

}  // namespace ptb
