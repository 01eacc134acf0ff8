#include "ptb_dist/run/header.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/version.hpp"

namespace ptb {
namespace {

using Lines = std::vector<std::string>;

constexpr std::size_t kLongestPath = 4096;

// The origin of a key's value in brackets: a flag, or a user's own file if the value is not the
// default. Nothing for shipped configurations: configs/README.md shows them.
std::string origin_text(const ResolvedConfig& config, const Key& key) {
  const auto origin = std::ranges::find(config.origins, key.name, &Origin::key);
  if (origin == config.origins.end()) return "";
  const bool is_default = toml_value(config.values, key) == toml_value(Config{}, key);
  const bool is_told = origin->from == "flag" || (!config.file.empty() && !is_default);
  return is_told ? fmt::format(" ({})", escaped(origin->from)) : "";
}

// Every key, one line per group.
void add_configuration(Lines& lines, const ResolvedConfig& config) {
  lines.push_back(fmt::format(
      "Configuration: {}{}", escaped(config.name),
      config.file.empty() ? "" : fmt::format(", {}", escaped(config.file, kLongestPath))));
  std::string group;
  for (const Key& key : config_schema()) {
    const std::string text = fmt::format("{} = {}{}", key.name, toml_value(config.values, key),
                                         origin_text(config, key));
    if (key.group == group) {
      lines.back() += ", " + text;
    } else {
      lines.push_back(fmt::format("  {}: {}", key.group, text));
    }
    group = key.group;
  }
}

void add_corpus(Lines& lines, const Corpus& corpus, const Config& config) {
  const auto size = [&](Split split) { return corpus.split(split).size(); };
  lines.push_back(fmt::format("Corpus: {}, {} words; {} train, {} valid, {} test tokens",
                              corpus.source, corpus.words.size(), size(Split::train),
                              size(Split::valid), size(Split::test)));
  if (std::ssize(corpus.words) < config.vocab_size) {
    lines.push_back(fmt::format("Corpus: the model's vocabulary of {} has {} unused words",
                                config.vocab_size, config.vocab_size - std::ssize(corpus.words)));
  }
  for (std::size_t s = 0; s < corpus.unknown.size(); ++s) {
    if (corpus.unknown[s] == 0) continue;
    lines.push_back(fmt::format("Corpus: {} words of {} are not in the vocabulary and became <unk>",
                                corpus.unknown[s], kSplitNames[s]));
  }
}

void append(Lines& to, Lines more) { std::ranges::move(more, std::back_inserter(to)); }

}  // namespace

std::vector<std::string> header_lines(const ResolvedConfig& config, const Corpus& corpus,
                                      const Plan& plan, const std::string& machine) {
  Lines lines{fmt::format("ptb_dist {} ({}), {} rank{}, {}", kVersion, git_revision(), plan.ranks,
                          plan.ranks == 1 ? "" : "s", machine)};
  add_configuration(lines, config);
  add_corpus(lines, corpus, config.values);
  for (std::string& text : plan.lines(config.values)) lines.push_back(std::move(text));
  return lines;
}

Header header_of(const ResolvedConfig& config, const Corpus& corpus, const Plan& plan,
                 const Machine& machine) {
  Header header;
  header.lines = header_lines(config, corpus, plan,
                              fmt::format("{}, all-reduce: {}", machine.backend->description(),
                                          machine.communicator->name()));
  header.lines.insert(header.lines.begin() + 1, machine.lines.begin(), machine.lines.end());
  header.warnings = machine.warnings;
  append(header.warnings, corpus_warnings(corpus));
  append(header.warnings, plan.warnings(config.values, machine.ranks_on_a_gpu));
  return header;
}

std::vector<std::string> dry_run_lines(const Header& header,
                                       const std::optional<Restart>& restart) {
  Lines lines = header.lines;
  Lines warnings = header.warnings;
  if (restart) {
    append(lines, restart->remarks);
    append(warnings, restart->warnings);
  }
  for (const std::string& text : warnings) lines.push_back(fmt::format("warning: {}", text));
  return lines;
}

void say_header(Report& report, const Header& header, const RunFolder& folder,
                const std::optional<Restart>& restart, const CommandLine& line) {
  for (const std::string& text : header.lines) report.line(text);
  for (const std::string& text : header.warnings) report.warning(text);
  report.line(fmt::format("Run directory: {}", folder.directory().path().string()));
  for (const std::string& text : folder.directory().remarks()) report.line(text);
  if (restart) {
    for (const std::string& text : restart->warnings) report.warning(text);
    for (const std::string& text : restart->remarks) report.line(text);
  } else if (line.resume == "auto") {
    report.line("Resume: no checkpoint in the run directory, a fresh start");
  }
  for (const Fault& fault : line.faults) {
    report.warning(fmt::format("--inject will cause a fault in this run: {}", fault.text()));
  }
  for (const std::string& text : folder.remarks()) report.line(text);
}

std::vector<std::string> corpus_warnings(const Corpus& corpus) {
  std::vector<std::string> counts;
  for (std::size_t s = 0; s < corpus.marked_lines.size(); ++s) {
    if (corpus.marked_lines[s] == 0) continue;
    counts.push_back(fmt::format("{} of {}", corpus.marked_lines[s], kSplitNames[s]));
  }
  if (counts.empty()) return {};
  return {fmt::format(
      "lines of the text end in \"{}\" ({}), and each line feed becomes <eos> as well, so the end "
      "of a sentence counts twice and perplexities are too low; remove that word from the files",
      corpus.end_mark, fmt::join(counts, ", "))};
}

}  // namespace ptb
