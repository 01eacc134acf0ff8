// manifest.json: who ran what, where and when. What a checkpoint must not say, since its bytes
// depend on the run alone, stands here.
#pragma once

#include <string>
#include <vector>

#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/io/run_directory.hpp"

namespace ptb {

// One launch of the program in a run directory.
struct Attempt {
  int generation = 0;
  std::vector<std::string> command;  // arguments
  std::vector<std::string> hosts;    // by rank
  ExactClass exact_class;
  std::string resumed_from;  // checkpoint; empty: a fresh start
  CorpusIdentity corpus;     // its words are not written, only how many
  std::string corpus_source;
};

// Adds the attempt to manifest.json with version, build, process, time and the variables of the
// environment that matter (a fixed list of prefixes without what may be a secret: never all), and
// replaces the file. What is no manifest is begun anew. Error 74.
void add_to_manifest(const RunDirectory& directory, const Attempt& attempt);

// Launches recorded so far: one more than the highest generation, 0 without a manifest. Error 74 if
// it cannot be read.
int recorded_attempts(const std::filesystem::path& run_directory);

}  // namespace ptb
