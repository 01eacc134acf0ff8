#include "ptb_dist/base/command_line.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "base/flags.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

constexpr const char* kAbout =
    "Trains LSTM language models (Zaremba et al. 2014) on the Penn Treebank,\n"
    "data-parallel over the ranks of an MPI job: mpirun -np 8 ptb_dist --config large\n";
constexpr const char* kFooter =
    "A flag overrides the file, the file overrides the defaults; of a flag given twice\n"
    "the last one counts. Each key of a configuration file is the flag's name with\n"
    "underscores: max_grad_norm.";
constexpr int kHelpColumn = 32;
const std::vector<std::string> kCommands = {"train", "eval", "checkpoint", "config"};

// Breaks the text at spaces; CLI11 indents the lines after the first.
std::string wrapped(const std::string& text, std::size_t width) {
  std::string out;
  std::size_t begin = 0;
  while (text.size() - begin > width) {
    std::size_t end = text.rfind(' ', begin + width);
    if (end == std::string::npos || end <= begin)
      end = std::min(text.find(' ', begin), text.size());
    if (end == text.size()) break;
    out += text.substr(begin, end - begin) + '\n';
    begin = end + 1;
  }
  return out + text.substr(begin);
}

std::string key_help(const Key& key) {
  const std::string unit = key.unit.empty() ? "" : fmt::format(" [{}]", key.unit);
  return wrapped(key.meaning + unit, 100 - kHelpColumn) + '\n' +
         fmt::format("{}; default {}", key.allowed(), toml_value(Config{}, key));
}

std::string value_name(const Key& key) {
  if (std::holds_alternative<std::string Config::*>(key.member)) return "TEXT";
  return std::holds_alternative<std::int64_t Config::*>(key.member) ? "N" : "X";
}

void declare(CLI::App& app, Flags& flags, const std::string& version_text) {
  app.name("ptb_dist");
  app.footer(kFooter);
  app.allow_extras();  // so that one message can name all unknown flags
  app.require_subcommand(0, 1);
  app.get_formatter()->column_width(kHelpColumn);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  app.set_version_flag("--version", version_text, "version, libraries and git revision");
  const auto command = [&app](const char* name, const char* meaning) {
    // Flags are the program's own, before or after the command; so is --help.
    CLI::App* const added = app.add_subcommand(name, meaning)->group("Commands")->fallthrough();
    added->set_help_flag();
    return added;
  };
  command("train", "train and report perplexity (the default command)");
  command("eval", "perplexity of a checkpoint: eval --checkpoint FILE");
  command("checkpoint", "look into checkpoints: checkpoint inspect|verify|diff FILE...")
      ->add_option("arguments", flags.files, "inspect, verify or diff, and files");
  command("config", "print the resolved configuration as TOML that can be run again");

  const auto add = [&app](const std::string& names, std::vector<std::string>& texts,
                          const std::string& help) {
    return app.add_option(names, texts, help)->expected(1)->allow_extra_args(false)->take_all();
  };
  add("--config", flags.config,
      "a shipped configuration (test, small, medium, large) or a TOML file\ndefault small")
      ->type_name("NAME|FILE.toml");
  add("--max-windows", flags.max_windows,
      "stop after this window of the run, without validation or test\ndefault: the whole run")
      ->type_name("N");
  app.add_flag("--dry-run", flags.dry_run,
               "print what would run (lanes, windows, parameters, bytes), and stop");
  const auto add_to = [&add](const char* group, const char* flag, std::vector<std::string>& texts,
                             const char* value, const char* help) {
    add(flag, texts, wrapped(help, 100 - kHelpColumn))->type_name(value)->group(group);
  };
  constexpr const char* kRestart = "Stop and restart";
  add_to(kRestart, "--resume", flags.resume, "auto|FILE",
         "resume from the newest good checkpoint of --run-dir (auto; a fresh start if there is "
         "none), or from the given one");
  app.add_flag("--fresh", flags.fresh,
               "start again in --run-dir; the run that it holds is moved aside")
      ->group(kRestart);
  add_to(kRestart, "--stop-after", flags.stop_after, "TIME",
         "the launch ends within this time (90s, 55m, 1.5h) with a checkpoint and exit status 75: "
         "it stops as long before as the longest window and save so far took, with a margin");
  add_to(kRestart, "--override", flags.overridden, "KEY",
         "with --resume: this key may differ from the checkpoint's (also \"data\"); several with "
         "commas, or repeated");
  add_to(kRestart, "--inject", flags.inject, "FAULT",
         "inject a fault, kind@rank:window[:phase]: kill, hang, slow or nan on a rank, before a "
         "window of the run or in a phase (train, validation, test, save); for example kill@1:50; "
         "may be repeated");
  constexpr const char* kEval = "Of the command eval";
  add_to(kEval, "--checkpoint", flags.checkpoint, "FILE", "the checkpoint");
  add_to(kEval, "--split", flags.split, "NAME", "valid or test; default test");
  flags.keys.resize(config_schema().size());
  for (std::size_t i = 0; i < config_schema().size(); ++i) {
    const Key& key = config_schema()[i];
    add(key.alias.empty() ? key.flag() : key.flag() + "," + key.alias, flags.keys[i], key_help(key))
        ->type_name(value_name(key))
        ->group(key.group);
  }
}

std::vector<std::string> flag_names() {
  std::vector<std::string> names = {"--config",     "--max-windows", "--dry-run",  "--resume",
                                    "--fresh",      "--stop-after",  "--override", "--inject",
                                    "--checkpoint", "--split",       "--version",  "--help"};
  for (const Key& key : config_schema()) {
    names.push_back(key.flag());
    if (!key.alias.empty()) names.push_back(key.alias);
  }
  return names;
}

// The arguments that CLI11 did not recognise. A word after an unknown flag counts as its value.
std::vector<Complaint> unknown_arguments(const std::vector<std::string>& remaining) {
  std::vector<Complaint> complaints;
  bool is_value = false;
  for (const std::string& argument : remaining) {
    const std::size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals);
    const std::string hint = did_you_mean(flag, flag_names());
    if (argument.starts_with('-')) {
      complaints.push_back({.what = fmt::format("unknown flag \"{}\"", escaped(flag)),
                            .remedy = hint.empty() ? "ptb_dist --help lists all" : hint});
    } else if (!is_value) {
      const std::string command = did_you_mean(argument, kCommands);
      complaints.push_back(
          {.what = fmt::format("unexpected argument \"{}\"", escaped(argument)),
           .remedy = command.empty() ? fmt::format("commands are {}", fmt::join(kCommands, ", "))
                                     : command});
    }
    is_value = argument.starts_with('-') && equals == std::string::npos;
  }
  return complaints;
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments,
                               const std::string& version_text) {
  CLI::App app(kAbout);
  Flags flags;
  declare(app, flags, version_text);
  const std::string help = app.help();  // after parsing it would be the chosen command's
  std::vector<Complaint> complaints;
  std::vector<std::string> reversed;  // CLI11 takes them from the back
  for (auto argument = arguments.rbegin(); argument != arguments.rend(); ++argument) {
    // CLI11 would take the next argument for the value.
    if (argument->starts_with("--") && argument->ends_with('=')) {
      complaints.push_back({.what = escaped(*argument), .why = "has no value after the ="});
    } else {
      reversed.push_back(*argument);
    }
  }

  CommandLine line;
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return {.action = CommandLine::Action::print_text, .text = help};
  } catch (const CLI::CallForVersion& version) {
    return {.action = CommandLine::Action::print_text, .text = version.what()};
  } catch (const CLI::ArgumentMismatch&) {  // only the last argument can lack its value
    complaints.push_back({.what = escaped(arguments.back()), .why = "has no value"});
    throw Error(ExitCode::usage, std::move(complaints));
  } catch (const CLI::ParseError& error) {
    complaints.push_back({.what = "command line", .why = error.what()});
    throw Error(ExitCode::usage, std::move(complaints));
  }
  for (Complaint& complaint : unknown_arguments(app.remaining(true))) {
    complaints.push_back(std::move(complaint));
  }
  if (flags.dry_run) line.action = CommandLine::Action::dry_run;
  if (app.got_subcommand("eval")) line.action = CommandLine::Action::eval;
  if (app.got_subcommand("checkpoint")) line.action = CommandLine::Action::checkpoint;
  if (app.got_subcommand("config")) line.action = CommandLine::Action::config;
  read_flags(line, flags, complaints);
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
  line.arguments = arguments;
  return line;
}

}  // namespace ptb
