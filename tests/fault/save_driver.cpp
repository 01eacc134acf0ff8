// One save of rank 0 on the disk (src/run/checkpointer.cpp), as a process of its own, which
// system_call_test.py disturbs.
//
//   save_driver RUN_DIR STEP FILE KEEP   makes the folder of checkpoints ready, brings log and
//                                        metrics to the disk, writes the bytes of FILE as the
//                                        checkpoint of STEP and as best.h5, removes all but KEEP
//
// Ends as the program does: 0, or an error's one line and its exit status.
#include <fmt/format.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/io/checkpoint_folder.hpp"
#include "ptb_dist/io/run_directory.hpp"

namespace {

using namespace ptb;

std::string bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ExitCode::bad_data, Complaint{.what = "cannot read", .where = path});
  return {std::istreambuf_iterator<char>(file), {}};
}

void save(const std::filesystem::path& run, std::int64_t step, const std::string& image, int keep) {
  const CheckpointFolder folder(run / "checkpoints");
  const LineFile log(run / "log.txt"), metrics(run / "metrics.jsonl");
  folder.prepare();
  log.sync();
  metrics.sync();
  const auto bytes = std::as_bytes(std::span(image));
  folder.write(folder.file(0, step), bytes);
  folder.write(folder.best(), bytes);
  folder.prune(keep);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return static_cast<int>(ExitCode::usage);
  std::signal(SIGXFSZ, SIG_IGN);  // as the program
  try {
    const std::string image = bytes_of(argv[3]);  // first: the calls of the save are then in a row
    save(argv[1], std::atoll(argv[2]), image, std::atoi(argv[4]));
    return 0;
  } catch (const Error& error) {
    for (const std::string& line : error.lines()) {
      std::fputs(fmt::format("ptb_dist: error: {}\n", line).c_str(), stderr);
    }
    return static_cast<int>(error.code());
  }
}
