#include "ptb_dist/program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <optional>
#include <system_error>

#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/train/header.hpp"
#include "ptb_dist/train/setup.hpp"
#include "ptb_dist/train/threads.hpp"
#include "ptb_dist/train/trainer.hpp"

namespace ptb {
namespace {

// Nobody may be there to read it: no reason for another error.
void print_error(const Error& error, const std::string& who) {
  for (const std::string& line : error.lines()) {
    std::fputs(fmt::format("ptb_dist: error: {}{}\n", who, line).c_str(), stderr);
  }
}

// A reader that has seen enough ("| head -1") is no error, a full disk is.
void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) return;
  throw Error(ExitCode::io, {.what = "cannot write",
                             .where = "standard output",
                             .why = std::generic_category().message(errno)});
}

void print_plan(const std::vector<std::string>& header, const std::vector<std::string>& warnings) {
  for (const std::string& line : header) print(line + '\n');
  for (const std::string& line : warnings) print(fmt::format("warning: {}\n", line));
}

int train(Session& session, const CommandLine& line, const BackendFactory& factory) {
  // 1. The machine.
  const Config& config = line.config.values;
  const int threads = threads_of_this_rank(session, config);
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> communicator;
  session.on_every_rank([&] {
    backend = factory({.name = config.backend,
                       .precision = config.precision,
                       .threads = threads,
                       .host_rank = session.host_rank(),
                       .may_share_device = config.comm == "mpi"});
    communicator = make_communicator(config.comm, session, *backend);
  });
  require_same(session, "backend", backend->identity());

  // 2. The text, and what follows from all of this.
  const Corpus corpus = agreed_corpus(session, config);
  Plan plan;
  session.on_every_rank(
      [&] { plan = make_plan(config, corpus, session.size(), size_of(backend->real_type())); });
  std::vector<std::string> header;
  session.on_root([&] {
    header = header_lines(
        line.config, corpus, plan,
        fmt::format("{}, all-reduce: {}", backend->description(), communicator->name()));
    if (line.action == CommandLine::Action::dry_run) print_plan(header, plan.warnings(config));
  });
  if (line.action == CommandLine::Action::dry_run) return 0;

  // 3. The model, and all memory.
  std::optional<Parameters> parameters;
  session.on_every_rank([&] { parameters.emplace(*backend, plan.model); });
  set_initial_parameters(session, config, *backend, *parameters);
  Report report;  // silent; on rank 0 until all is well
  std::optional<Trainer> trainer;
  session.on_every_rank([&] {
    trainer.emplace(TrainerParts{.config = config,
                                 .plan = plan,
                                 .corpus = corpus,
                                 .session = session,
                                 .communicator = *communicator,
                                 .backend = *backend,
                                 .parameters = *parameters,
                                 .report = report});
  });

  // 4. The run.
  session.on_root([&] {
    report = begin_report(line.config, backend->real_type(), header, plan.warnings(config));
  });
  try {
    trainer->run(line.max_windows);
    session.on_root([&] {
      if (config.save_parameters.empty()) return;
      save_parameters(config.save_parameters, *backend, *parameters);
    });
  } catch (const Error& error) {
    for (const std::string& text : error.lines()) report.error(text);
    throw;
  }
  return 0;
}

int run(Session& session, const std::vector<std::string>& arguments,
        const BackendFactory& factory) {
  require_same_build(session);
  const CommandLine line = agreed_command_line(session, arguments);
  session.set_timeout(Session::Seconds(line.config.values.timeout));
  switch (line.action) {
    case CommandLine::Action::print_text:
      session.on_root([&] { print(line.text); });
      return 0;
    case CommandLine::Action::config:
      session.on_root([&] { print(to_toml(line.config)); });
      return 0;
    case CommandLine::Action::dry_run:
    case CommandLine::Action::train:
      break;
  }
  return train(session, line, factory);
}

}  // namespace

int run_program(int argc, char** argv, const BackendFactory& factory) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an I/O error like a full disk
  std::signal(SIGPIPE, SIG_IGN);  // the log goes on when standard output is closed
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  try {
    Session session(&argc, &argv);
    // An error that all ranks have is told once and they leave together. Any other may be one
    // rank's own while the others wait for it, so it ends them all.
    const std::string who =
        session.size() == 1 ? "" : fmt::format("rank {} ({}): ", session.rank(), session.host());
    const auto end_all = [&](const Error& error) {
      print_error(error, who);
      session.abort(error.code());
      return static_cast<int>(error.code());
    };
    try {
      return run(session, arguments, factory);
    } catch (const AgreedError& error) {
      if (session.is_root()) print_error(error, "");
      return static_cast<int>(error.code());
    } catch (const Error& error) {
      return end_all(error);
    } catch (const std::bad_alloc&) {
      return end_all({ExitCode::missing, Complaint{.what = "out of memory"}});
    } catch (const std::exception& error) {
      return end_all(
          {ExitCode::internal, Complaint{.what = "internal error", .why = error.what()}});
    }
  } catch (const Error& error) {  // MPI could not be started
    print_error(error, "");
    return static_cast<int>(error.code());
  }
}

}  // namespace ptb
