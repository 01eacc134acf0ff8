#include "ptb_dist/io/manifest.hpp"

#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "io/scratch.hpp"
#include "io/system_calls.hpp"
#include "ptb_dist/base/version.hpp"

using namespace ptb;
using namespace ptb::test;
using nlohmann::json;

namespace {

Attempt attempt(int generation) {
  return {.generation = generation,
          .command = {"--config", "small", "--resume=auto"},
          .hosts = {"node1", "node1", "node2"},
          .exact_class = {{"ranks", "3"}, {"precision", "fp32"}},
          .resumed_from = "",
          .corpus = {.words = {"<unk>", "the"}, .tokens = {9, 4, 5}, .digests = {"aa", "bb", "cc"}},
          .corpus_source = "data/ptb"};
}

json manifest_of(const RunDirectory& directory) {
  return json::parse(content(directory.file("manifest.json")));
}

// A run directory of its own, and a variable of the environment for as long.
struct Folder {
  Scratch scratch{};
  RunDirectory directory{scratch / "run", "small", RunDirectory::Purpose::start};
};

struct Variable {
  Variable(const char* its_name, const char* value) : name(its_name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  const char* name;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(manifest)

BOOST_AUTO_TEST_CASE(an_attempt_has_the_fields_of_the_contract) {
  const Folder folder;
  add_to_manifest(folder.directory, attempt(0));
  json one = manifest_of(folder.directory).at("attempts").at(0);
  const std::string started = one["started"];
  BOOST_TEST(started.size() == std::string("2026-03-01T12:00:00Z").size());
  BOOST_TEST(started.starts_with("20"));
  BOOST_TEST(started.ends_with("Z"));
  BOOST_TEST(one["build"].at(0) == "git revision: " + git_revision());
  BOOST_TEST(one["build"].size() >= 4u);
  BOOST_TEST(one["environment"].is_object());
  for (const char* name : {"started", "build", "environment"}) one.erase(name);
  const json expected = {{"generation", 0},
                         {"version", kVersion},
                         {"command", {"--config", "small", "--resume=auto"}},
                         {"process", ::getpid()},
                         {"hosts", {"node1", "node1", "node2"}},
                         {"resumed_from", nullptr},
                         {"exact_class", {{"ranks", "3"}, {"precision", "fp32"}}},
                         {"corpus",
                          {{"source", "data/ptb"},
                           {"words", 2},
                           {"tokens", {{"train", 9}, {"valid", 4}, {"test", 5}}},
                           {"xxh3_128", {{"train", "aa"}, {"valid", "bb"}, {"test", "cc"}}}}}};
  BOOST_TEST(one == expected, one.dump(1));
}

BOOST_AUTO_TEST_CASE(attempts_follow_each_other) {
  const Folder folder;
  BOOST_TEST(recorded_attempts(folder.directory.path()) == 0);
  add_to_manifest(folder.directory, attempt(0));
  const json first = manifest_of(folder.directory)["attempts"][0];
  Attempt second = attempt(4);
  second.resumed_from = "checkpoints/g0000-step-00000010.h5";
  add_to_manifest(folder.directory, second);
  const json attempts = manifest_of(folder.directory)["attempts"];
  BOOST_TEST(attempts.size() == 2u);
  BOOST_TEST(attempts[0] == first);
  BOOST_TEST(attempts[1]["resumed_from"] == second.resumed_from);
  BOOST_TEST(recorded_attempts(folder.directory.path()) == 5);
  BOOST_TEST(names_in(folder.directory.path()).size() == 2u);  // and .lock
}

BOOST_AUTO_TEST_CASE(the_environment_is_recorded_without_secrets) {
  const char* const kept[] = {"SLURM_JOB_ID", "OMPI_MCA_btl",         "PMIX_MCA_gds",
                              "NCCL_DEBUG",   "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
                              "PTB_DATA"};
  const char* const left_out[] = {"WANDB_API_KEY",
                                  "MY_SLURM_JOB_ID",
                                  "PTB_DATA_2",
                                  "PMIX_SERVER_URI2",
                                  "SLURM_JWT",
                                  "SLURM_EXPORT_ENV",
                                  "SLURM_SPANK_site_option",
                                  "OMPI_MCA_mca_base_env_list",
                                  "OMPI_MCA_orte_precondition_transports",
                                  "OMPI_MCA_orte_hnp_uri",
                                  "NCCL_API_KEY",
                                  "NCCL_api_token",
                                  "CUDA_Secret",
                                  "OMP_PASSWORD",
                                  "OMP_CREDENTIALS"};
  std::vector<std::unique_ptr<Variable>> variables;
  for (const char* name : kept) variables.push_back(std::make_unique<Variable>(name, "seen=it"));
  for (const char* name : left_out) {
    variables.push_back(std::make_unique<Variable>(name, "SENSITIVE"));
  }
  const Folder folder;
  add_to_manifest(folder.directory, attempt(0));
  const json environment = manifest_of(folder.directory)["attempts"][0]["environment"];
  for (const char* name : kept) BOOST_TEST(environment.value(name, "") == "seen=it", name);
  BOOST_TEST(content(folder.directory.file("manifest.json")).find("SENSITIVE") ==
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_utf8_still_make_json) {
  const Folder folder;
  Attempt odd = attempt(0);
  odd.command = {"--run-dir", "caf\xe9", "line\nfeed \"quoted\""};
  odd.corpus_source = "\xff\xfe";
  add_to_manifest(folder.directory, odd);
  const json command = manifest_of(folder.directory)["attempts"][0]["command"];
  BOOST_TEST(command[1] == "caf\xef\xbf\xbd");
  BOOST_TEST(command[2] == odd.command[2]);
  add_to_manifest(folder.directory, attempt(1));
  BOOST_TEST(recorded_attempts(folder.directory.path()) == 2);
}

BOOST_AUTO_TEST_CASE(what_is_no_manifest_is_begun_anew) {
  const std::string cases[] = {"",
                               "{",
                               "[]",
                               "{}",
                               "null",
                               R"({"attempts": 7})",
                               R"({"attempts": [7]})",
                               R"({"attempts": [{}]})",
                               R"({"attempts": [{"generation": "1"}]})",
                               R"({"attempts": [{"generation": -1}]})",
                               R"({"attempts": [{"generation": 1.5}]})",
                               R"({"attempts": [{"generation": 99999999999}]})",
                               std::string(100'000, '[')};
  for (const std::string& text : cases) {
    const Folder folder;
    put(folder.directory.file("manifest.json"), text);
    BOOST_TEST(recorded_attempts(folder.directory.path()) == 0, text.substr(0, 100));
    add_to_manifest(folder.directory, attempt(3));
    BOOST_TEST(manifest_of(folder.directory)["attempts"].size() == 1u);
  }
}

BOOST_AUTO_TEST_CASE(one_that_cannot_be_read_or_written_is_told_and_stays) {
  const Folder folder;
  add_to_manifest(folder.directory, attempt(0));
  const std::string before = content(folder.directory.file("manifest.json"));
  for (const Call call : {Call::open, Call::write, Call::fsync, Call::rename}) {
    Failure failure;
    {
      const SystemCalls calls(call, EIO);
      failure = failure_of([&] { add_to_manifest(folder.directory, attempt(1)); });
    }
    BOOST_TEST(failure.code == 74);
    BOOST_TEST(failure.names("manifest.json: Input/output error"), failure.line);
    BOOST_TEST(content(folder.directory.file("manifest.json")) == before);
  }
}

BOOST_AUTO_TEST_SUITE_END()
