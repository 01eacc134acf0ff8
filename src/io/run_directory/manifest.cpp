#include "ptb_dist/io/manifest.hpp"

#include <fmt/format.h>

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>

#include "io/files/file.hpp"
#include "io/run_directory/json_api.hpp"
#include "ptb_dist/base/version.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "manifest";
constexpr const char* kAttempts = "attempts";
constexpr const char* kGeneration = "generation";

// Variables that are recorded: those of the scheduler, and those with which users tune libraries.
constexpr std::array<std::string_view, 6> kPrefixes = {"SLURM_", "OMPI_MCA_", "PMIX_MCA_",
                                                       "NCCL_",  "CUDA_",     "OMP_"};
constexpr std::string_view kCorpusVariable = "PTB_DATA";
// Variables that may hold a secret are left out: SLURM_JWT; SLURM_EXPORT_ENV and
// OMPI_MCA_mca_base_env_list, which contain other variables with their values;
// OMPI_MCA_orte_precondition_transports, a key that the ranks of a job share; options of site
// plug-ins, which may be anything.
constexpr std::array<std::string_view, 11> kSecrets = {
    "KEY", "TOKEN", "SECRET", "PASS", "CRED", "AUTH", "JWT", "ENV", "TRANSPORT", "URI", "SPANK"};

bool is_recorded(std::string name) {
  const bool is_of_interest =
      name == kCorpusVariable || std::ranges::any_of(kPrefixes, [&](std::string_view start) {
        return name.starts_with(start);
      });
  if (!is_of_interest) return false;
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return std::ranges::none_of(
      kSecrets, [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

// Sorted by name, so that two attempts can be compared.
std::map<std::string, std::string> recorded_environment() {
  std::map<std::string, std::string> recorded;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string name(text.substr(0, equals));
    if (is_recorded(name)) recorded[name] = text.substr(equals + 1);
  }
  return recorded;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Json corpus_json(const Attempt& attempt) {
  Json corpus{{"source", attempt.corpus_source}, {"words", attempt.corpus.words.size()}};
  for (std::size_t s = 0; s < kSplitNames.size(); ++s) {
    corpus["tokens"][kSplitNames[s]] = attempt.corpus.tokens[s];
    corpus["xxh3_128"][kSplitNames[s]] = attempt.corpus.digests[s];
  }
  return corpus;
}

Json attempt_json(const Attempt& attempt) {
  Json json{{kGeneration, attempt.generation},
            {"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
            {"version", kVersion},
            {"build", lines_of(build_information())},
            {"command", attempt.command},
            {"process", ::getpid()},
            {"hosts", attempt.hosts}};
  json["resumed_from"] = attempt.resumed_from.empty() ? Json() : Json(attempt.resumed_from);
  json["exact_class"] = Json::object();
  for (const auto& [name, value] : attempt.exact_class) json["exact_class"][name] = value;
  json["corpus"] = corpus_json(attempt);
  json["environment"] = recorded_environment();
  return json;
}

// Nothing if there is no manifest, or if one of its attempts has no generation.
std::optional<Json> read_manifest(const fs::path& path) {
  const std::optional<std::string> text = read_text(kWhat, path);
  if (!text) return std::nullopt;
  Json manifest = Json::parse(*text, nullptr, false);
  if (!manifest.is_object() || !manifest.contains(kAttempts)) return std::nullopt;
  const Json& attempts = manifest[kAttempts];
  const bool is_good = attempts.is_array() && std::ranges::all_of(attempts, [](const Json& one) {
                         return one.is_object() && one.contains(kGeneration) &&
                                one[kGeneration].is_number_unsigned() &&
                                one[kGeneration].get<std::uint64_t>() <= kMaxGeneration;
                       });
  return is_good ? std::optional(std::move(manifest)) : std::nullopt;
}

fs::path manifest_in(const fs::path& run_directory) { return run_directory / "manifest.json"; }

}  // namespace

void add_to_manifest(const RunDirectory& directory, const Attempt& attempt) {
  const fs::path path = manifest_in(directory.path());
  Json manifest = read_manifest(path).value_or(Json{{kAttempts, Json::array()}});
  manifest[kAttempts].push_back(attempt_json(attempt));
  // JSON must be UTF-8, but arguments and paths need not be.
  const std::string text = manifest.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
  replace_file(kWhat, path, std::as_bytes(std::span(text)));
}

int recorded_attempts(const fs::path& run_directory) {
  const std::optional<Json> manifest = read_manifest(manifest_in(run_directory));
  int count = 0;
  if (!manifest) return count;
  for (const Json& attempt : (*manifest)[kAttempts]) {
    count = std::max(count, attempt[kGeneration].get<int>() + 1);
  }
  return count;
}

}  // namespace ptb
