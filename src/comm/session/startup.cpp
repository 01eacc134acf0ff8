#include "comm/session/startup.hpp"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "comm/mpi_api.hpp"
#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {
namespace {

// How many processes the launcher says it started, by the variable that is nearest to the process:
// under mpirun in a Slurm job, Slurm's variables count mpirun's daemons.
struct Launch {
  std::string variable;
  int processes = 1;
};
std::optional<Launch> launch_of_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    Launch launch{.variable = name};
    const std::string_view text = value;
    std::from_chars(text.data(), text.data() + text.size(), launch.processes);
    return launch;
  }
  return std::nullopt;
}

Error singleton_error(const Launch& launch) {
  const bool is_slurm = launch.variable.starts_with("SLURM");
  return Error(
      ExitCode::usage,
      {.what = fmt::format("started as 1 process but the {} has {} {}",
                           is_slurm ? "Slurm step" : "launcher's job", launch.processes,
                           is_slurm ? "tasks" : "processes"),
       .where = fmt::format("{}={}", launch.variable, launch.processes),
       .why = "the launcher and the MPI library do not know each other, so every process "
              "would train alone",
       .remedy = is_slurm ? std::string("use srun --mpi=pmix or mpirun")
                          : fmt::format("use the mpirun of {}", Session::library_version())});
}

// Whether srun has started this task without a service that MPI could ask for the others. Open MPI
// would end each task with a page of its own.
bool has_no_service(const Launch& launch) {
  const auto is_set = [](const char* name) { return std::getenv(name) != nullptr; };
  return launch.variable == "SLURM_STEP_NUM_TASKS" && !is_set("PMIX_RANK") && !is_set("PMI_RANK");
}

void check_size(const std::optional<Launch>& launch) {
  int size = 1;
  mpi::check(MPI_Comm_size(MPI_COMM_WORLD, &size));
  if (size == 1 && launch && launch->processes > 1) throw singleton_error(*launch);
}

void check_threads(int level) {
  if (level >= MPI_THREAD_MULTIPLE) return;
  throw Error(ExitCode::missing, {.what = "this MPI library is not thread-safe",
                                  .where = Session::library_version(),
                                  .why = "it does not grant MPI_THREAD_MULTIPLE",
                                  .remedy = "use one that was built with threads"});
}

}  // namespace

void initialise_mpi(int* argc, char*** argv) {
  // Read before MPI_Init, which sets variables of its own.
  const std::optional<Launch> launch = launch_of_environment();
  if (launch && launch->processes > 1 && has_no_service(*launch)) {
    // When the first task ends, srun --kill-on-bad-exit sends TERM to the others. One that is still
    // being loaded dies of it, and 143, the highest of all, would be the status of srun.
    std::this_thread::sleep_for(std::chrono::seconds(1));
    throw singleton_error(*launch);
  }
  // Where these are lacking, MPI ends the process with pages of its own, or crashes.
  require_room_for_mpi(!launch);
  int level = MPI_THREAD_SINGLE;
  mpi::check(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level));
  try {
    mpi::check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    check_size(launch);
    check_threads(level);
  } catch (...) {
    MPI_Finalize();
    throw;
  }
}

}  // namespace ptb
