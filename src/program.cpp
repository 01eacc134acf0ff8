#include "ptb_dist/program.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/base/version.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/io/run_directory.hpp"
#include "ptb_dist/train/header.hpp"
#include "ptb_dist/train/plan.hpp"
#include "ptb_dist/train/trainer.hpp"

namespace ptb {
namespace {

void print_error(const Error& error, const std::string& who) {
  for (const std::string& line : error.lines()) {
    fmt::print(stderr, "ptb_dist: error: {}{}\n", who, line);
  }
}

template <class T>
void broadcast_values(Session& session, std::vector<T>& values) {
  std::uint64_t count = values.size();
  session.broadcast(std::as_writable_bytes(std::span(&count, 1)));
  values.resize(count);
  session.broadcast(std::as_writable_bytes(std::span(values)));
}

// Rank 0 reads the command line and its files; the others are told what it found.
CommandLine agreed_command_line(Session& session, const std::vector<std::string>& arguments) {
  CommandLine line;
  session.on_root([&] {
    line = parse_command_line(arguments,
                              fmt::format("ptb_dist {}\n{}\n", kVersion, build_information()));
  });
  struct {
    CommandLine::Action action;
    std::int64_t max_windows;
  } fixed{line.action, line.max_windows.value_or(-1)};
  session.broadcast(std::as_writable_bytes(std::span(&fixed, 1)));
  std::string name = line.config.name;
  std::string values = to_toml(line.config);
  session.broadcast(name);
  session.broadcast(values);
  if (session.is_root()) return line;
  line.action = fixed.action;
  if (fixed.max_windows >= 0) line.max_windows = fixed.max_windows;
  line.config = config_from_toml(values, name, "the configuration of rank 0");
  return line;
}

// --data, else $PTB_DATA, else data/ptb.
std::string corpus_place(const Config& config) {
  if (!config.data.empty()) return config.data;
  if (const char* folder = std::getenv("PTB_DATA"); folder != nullptr && *folder != '\0') {
    return folder;
  }
  if (std::filesystem::exists("data/ptb")) return "data/ptb";
  throw Error(ExitCode::bad_data,
              {.what = "no corpus",
               .where = "--data, $PTB_DATA and data/ptb",
               .why = "none of them is there",
               .remedy = "run launch/get_ptb.sh, or give --data DIR or --data synthetic"});
}

// Rank 0 reads or makes the corpus. The others get its tokens, not its words.
Corpus agreed_corpus(Session& session, const Config& config) {
  Corpus corpus;
  session.on_root([&] {
    const std::string place = corpus_place(config);
    corpus = place == "synthetic" ? synthetic_corpus(config.synthetic_tokens,
                                                     static_cast<int>(config.synthetic_vocab))
                                  : read_corpus(place, static_cast<int>(config.vocab_size));
    if (std::ssize(corpus.words) > config.vocab_size) {
      throw Error(ExitCode::usage,
                  {.what = "the vocabulary does not fit",
                   .where = fmt::format("vocab_size = {}", config.vocab_size),
                   .why = fmt::format("the corpus has {} words", corpus.words.size()),
                   .remedy = "raise --vocab-size"});
    }
  });
  for (auto& tokens : corpus.tokens) broadcast_values(session, tokens);
  double bound = corpus.perplexity_bound.value_or(0);
  session.broadcast(std::as_writable_bytes(std::span(&bound, 1)));
  if (bound > 0) corpus.perplexity_bound = bound;
  return corpus;
}

// Cores of this host that are left to each of its ranks, within what this process may use.
int threads_of_rank(const Config& config, const Session& session) {
  if (config.threads > 0) return static_cast<int>(config.threads);
  cpu_set_t allowed;
  const int bound = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, std::min(bound, online / session.host_size()));
}

Plan agreed_plan(Session& session, const Config& config, const Corpus& corpus,
                 std::size_t real_bytes) {
  Plan plan;
  session.on_root([&] { plan = make_plan(config, corpus, session.size(), real_bytes); });
  return session.is_root() ? plan : make_plan(config, corpus, session.size(), real_bytes);
}

void load_agreed_parameters(Session& session, const std::string& path, Backend& backend,
                            Parameters& parameters) {
  session.on_root([&] { load_parameters(path, backend, parameters); });
  std::vector<std::byte> values(parameters.slab().bytes());
  backend.download(parameters.slab(), values);
  session.broadcast(std::span(values));
  backend.upload(parameters.slab(), values);
  parameters.touch();
}

int train(Session& session, const CommandLine& line, const BackendFactory& factory) {
  const Config& config = line.config.values;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> communicator;
  session.on_every_rank([&] {
    backend = factory({.name = config.backend,
                       .precision = config.precision,
                       .threads = threads_of_rank(config, session),
                       .host_rank = session.host_rank()});
    communicator = make_communicator(config.comm, session, *backend);
  });
  require_same(session, "backend", backend->description());

  const Corpus corpus = agreed_corpus(session, config);
  const Plan plan = agreed_plan(session, config, corpus, size_of(backend->real_type()));

  const std::vector<std::string> header =
      header_lines(line.config, corpus, plan,
                   fmt::format("{}, all-reduce: {}", backend->description(), communicator->name()));
  if (line.action == CommandLine::Action::dry_run) {
    for (const std::string& text : header) {
      if (session.is_root()) fmt::print("{}\n", text);
    }
    return 0;
  }
  Report report;
  session.on_root([&] {
    if (!config.save_parameters.empty()) check_can_save_parameters(config.save_parameters);
    const RunDirectory directory(config.run_dir, line.config);
    const int loss_digits = backend->real_type() == ElementType::f64 ? 17 : 9;
    report = Report(directory, static_cast<int>(config.metrics_windows), loss_digits);
    for (const std::string& text : header) report.line(text);
    for (const std::string& text : plan.warnings(config)) report.warning(text);
    report.line(fmt::format("Run directory: {}", directory.path().string()));
  });

  Parameters parameters(*backend, plan.model);
  if (config.init_from.empty()) {
    parameters.initialise(*backend, config.init_scale, static_cast<std::uint64_t>(config.seed));
  } else {
    load_agreed_parameters(session, config.init_from, *backend, parameters);
  }
  Trainer trainer({.config = config,
                   .plan = plan,
                   .corpus = corpus,
                   .session = session,
                   .communicator = *communicator,
                   .backend = *backend,
                   .parameters = parameters,
                   .report = report});
  trainer.run(line.max_windows);
  session.on_root([&] {
    if (!config.save_parameters.empty()) {
      save_parameters(config.save_parameters, *backend, parameters);
    }
  });
  return 0;
}

int run(Session& session, const std::vector<std::string>& arguments,
        const BackendFactory& factory) {
  require_same(session, "version", fmt::format("{} ({})", kVersion, git_revision()));
  const CommandLine line = agreed_command_line(session, arguments);
  session.set_timeout(std::chrono::seconds(static_cast<std::int64_t>(line.config.values.timeout)));
  switch (line.action) {
    case CommandLine::Action::print_text:
      if (session.is_root()) fmt::print("{}", line.text);
      return 0;
    case CommandLine::Action::config:
      if (session.is_root()) fmt::print("{}", to_toml(line.config));
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
