#include "commands.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "ptb_dist/comm/seats.hpp"
#include "ptb_dist/train/threads.hpp"

namespace ptb {

// A reader that has seen enough ("| head -1") is no error, a full disk is.
void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) return;
  throw Error(ExitCode::io, {.what = "cannot write",
                             .where = "standard output",
                             .why = std::generic_category().message(errno)});
}

Machine make_machine(Session& session, const Config& config, const Factories& factories) {
  Machine machine;
  machine.threads = threads_of_this_rank(session, config);
  session.on_every_rank([&] {
    machine.backend = factories.backend({.name = config.backend,
                                         .precision = config.precision,
                                         .threads = machine.threads,
                                         .host_rank = session.host_rank()});
  });
  require_same(session, "backend", machine.backend->identity());
  const std::vector<Seat> seats = gather_seats(session, *machine.backend);
  session.on_root([&] {
    for (const Seat& seat : seats) machine.hosts.push_back(seat.host);
    machine.seats = lines_of(seats);
    // They are of one model, which the backends' identity has.
    const std::vector<int> sharing = ranks_by_device(seats);
    if (sharing.empty()) return;
    machine.peak_flops = static_cast<double>(sharing.size()) * machine.backend->device().peak_flops;
    machine.ranks_on_a_gpu = *std::ranges::max_element(sharing);
    if (config.comm != "mpi") machine.warnings = require_own_devices(seats);
  });
  machine.communicator =
      factories.communicator(config.comm, session, *machine.backend,
                             config.lane_groups > 0 ? SumOrder::tree : SumOrder::fastest);
  return machine;
}

}  // namespace ptb
