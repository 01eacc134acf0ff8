// NCCL's functions between processes of one machine, under the prototypes of NCCL's own header.
//
// Ranks meet in a shared memory that the unique id names. What they ask for is an operation on a
// stream like any other: it reads and writes when it runs, moves on when it is served, and while it
// waits for another rank (Progress::elsewhere) the other streams go on. Calls on a non-blocking
// communicator return before their work is on the stream, in all schedules but the eager ones:
// whoever records an event behind them too early is found.
//
//   All-reduce: in chunks. Each rank posts its chunk; when all have, each adds them up in the order
//   of the ranks, so that all have the same bits; the next is posted when all have done so.
//   Send, receive: in chunks through a box for each pair.
//
// Refused as the real one does, or at once where that one would hang: different counts, types or
// operations, a device that two ranks have, a call while another is in progress.
#include <fcntl.h>
#include <nccl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda_on_cpu/race.hpp"
#include "cuda_on_cpu/runtime.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/streams.hpp"

using namespace ptb::cuda_on_cpu;

namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kMaxRanks = 8;
constexpr std::size_t kChunk = std::size_t{64} << 10;
constexpr std::size_t kHostBytes = 128;
constexpr int kPollsOfACall = 3;  // before it is no longer in progress
// How long a rank may be dead before the others hear of it, as they do when a connection breaks.
constexpr auto kSilence = std::chrono::seconds(2);

// What the ranks of a sum, or both ends of a message, must agree on.
struct Call {
  std::uint64_t count = 0;
  int type = 0, operation = 0;

  bool operator==(const Call&) const = default;
};

struct Member {
  std::atomic<int> process;
  std::atomic<bool> has_left;
  int device;
  char host[kHostBytes];
};
struct Slot {                                // of one rank's chunk of a sum
  std::atomic<std::uint64_t> posted, added;  // chunks so far
  Call call;
  unsigned char bytes[kChunk];
};
struct Box {
  std::atomic<bool> is_full;
  Call call;
  unsigned char bytes[kChunk];
};
struct Meeting {  // zeroed memory is one that nobody has come to
  std::atomic<int> joined, left;
  std::atomic<bool> is_aborted;
  Member members[kMaxRanks];
  Slot slots[kMaxRanks];
  Box boxes[kMaxRanks][kMaxRanks];  // [from][to]
};

enum class Kind { all_reduce, send, receive };

// One call, as far as it has come.
struct Part {
  Kind kind;
  const unsigned char* from;
  unsigned char* to;
  Call call;
  int peer;
  std::size_t bytes;
  std::size_t done = 0;
  bool has_begun = false, is_posted = false;
};

std::size_t width_of(ncclDataType_t type) {
  if (type == ncclFloat32) return 4;
  if (type == ncclFloat64) return 8;
  fail("NCCL's types other than f32 and f64 are not emulated");
}

}  // namespace

struct ncclComm {
  Meeting* meeting = nullptr;
  std::string name{};
  int rank = 0, ranks = 1;
  bool is_blocking = true;
  ncclResult_t status = ncclSuccess;
  bool is_starting = false, is_finishing = false, is_aborted = false;
  bool is_stuck = false;     // as CUDA_ON_CPU_FAIL asks: what it begins from here on never ends
  std::uint64_t chunks = 0;  // of sums that this rank has added up
  int in_flight = 0;         // operations on streams
  int polls = 0;             // until the call in progress has put its work on the stream
  std::vector<std::pair<cudaStream_t, std::vector<Part>>> called{};
  SteadyClock::time_point missed{};  // since when a rank is dead; zero: none is
};

namespace {

struct Grouped {
  ncclComm_t comm;
  cudaStream_t stream;
  Part part;
};
int open_groups = 0;
std::vector<Grouped> grouped;

template <class T>
void add(const unsigned char* addend, std::size_t bytes, bool is_first, unsigned char* to) {
  for (std::size_t k = 0; k < bytes; k += sizeof(T)) {
    T a = 0, b;
    if (!is_first) std::memcpy(&a, to + k, sizeof(T));
    std::memcpy(&b, addend + k, sizeof(T));
    a = is_first ? b : a + b;
    std::memcpy(to + k, &a, sizeof(T));
  }
}

void require_same_call(const Call& mine, const Call& theirs, const char* what) {
  if (mine == theirs) return;
  const auto text = [](const Call& call) {
    return std::to_string(call.count) + " of type " + std::to_string(call.type);
  };
  fail(std::string(what) + " of ranks that do not agree: " + text(mine) + " here, " + text(theirs) +
       " there");
}

// The next chunk of a sum.
Progress advance_sum(ncclComm& comm, Part& part) {
  Meeting& meeting = *comm.meeting;
  const std::size_t bytes = std::min(kChunk, part.bytes - part.done);
  if (!part.is_posted) {
    for (int r = 0; r < comm.ranks; ++r) {
      if (meeting.slots[r].added < comm.chunks) return Progress::elsewhere;
    }
    Slot& mine = meeting.slots[comm.rank];
    mine.call = part.call;
    std::memcpy(mine.bytes, part.from + part.done, bytes);
    mine.posted = comm.chunks + 1;
    part.is_posted = true;
  }
  for (int r = 0; r < comm.ranks; ++r) {
    if (meeting.slots[r].posted <= comm.chunks) return Progress::elsewhere;
  }
  for (int r = 0; r < comm.ranks; ++r) {
    const Slot& slot = meeting.slots[r];
    require_same_call(part.call, slot.call, "a sum");
    (part.call.type == ncclFloat64 ? add<double> : add<float>)(slot.bytes, bytes, r == 0,
                                                               part.to + part.done);
  }
  meeting.slots[comm.rank].added = ++comm.chunks;
  part.is_posted = false;
  part.done += bytes;
  return Progress::advanced;
}

// The next chunk of a message.
Progress advance_message(ncclComm& comm, Part& part) {
  const bool is_send = part.kind == Kind::send;
  Box& box = is_send ? comm.meeting->boxes[comm.rank][part.peer]
                     : comm.meeting->boxes[part.peer][comm.rank];
  if (box.is_full == is_send) return Progress::elsewhere;
  const std::size_t bytes = std::min(kChunk, part.bytes - part.done);
  if (is_send) {
    box.call = part.call;
    std::memcpy(box.bytes, part.from + part.done, bytes);
  } else {
    require_same_call(part.call, box.call, "a message");
    std::memcpy(part.to + part.done, box.bytes, bytes);
  }
  box.is_full = is_send;
  part.done += bytes;
  return Progress::advanced;
}

// What was called in one group on one stream. Sums come one after the other, messages side by side.
Progress advance(ncclComm& comm, std::vector<Part>& parts) {
  if (comm.is_aborted) return Progress::finished;
  if (comm.is_stuck) return Progress::elsewhere;
  bool has_moved = false, is_over = true, is_sum_open = false;
  for (Part& part : parts) {
    if (!part.has_begun) {
      part.has_begun = true;
      if (part.from != nullptr) note_access(part.from, part.bytes, false);
      if (part.to != nullptr) note_access(part.to, part.bytes, true);
    }
    if (part.done == part.bytes || (part.kind == Kind::all_reduce && is_sum_open)) continue;
    const Progress progress =
        part.kind == Kind::all_reduce ? advance_sum(comm, part) : advance_message(comm, part);
    has_moved = has_moved || progress == Progress::advanced;
    if (part.done == part.bytes) continue;
    is_over = false;
    is_sum_open = is_sum_open || part.kind == Kind::all_reduce;
  }
  for (const Part& part : parts) is_over = is_over && part.done == part.bytes;
  return is_over ? Progress::finished : has_moved ? Progress::advanced : Progress::elsewhere;
}

void put_on_streams(ncclComm& comm) {
  for (auto& [stream, parts] : comm.called) {
    ++comm.in_flight;
    enqueue(stream, {.step =
                         [&comm, parts = std::move(parts)]() mutable {
                           const Progress progress = advance(comm, parts);
                           if (progress == Progress::finished) --comm.in_flight;
                           return progress;
                         },
                     .what = "nccl"});
  }
  comm.called.clear();
}

// The calls of the outermost group, or one alone.
ncclResult_t submit() {
  std::vector<ncclComm_t> comms;
  for (Grouped& one : grouped) {
    auto& called = one.comm->called;
    if (called.empty() || called.back().first != one.stream) called.push_back({one.stream, {}});
    called.back().second.push_back(std::move(one.part));
    if (std::ranges::find(comms, one.comm) == comms.end()) comms.push_back(one.comm);
  }
  grouped.clear();
  ncclResult_t result = ncclSuccess;
  for (const ncclComm_t comm : comms) {
    if (is_to_fail("nccl-async")) comm->is_stuck = true;
    if (comm->is_blocking || service() == Service::eager) {
      put_on_streams(*comm);
    } else {
      comm->polls = kPollsOfACall;
      comm->status = result = ncclInProgress;
    }
  }
  return result;
}

ncclResult_t call(const char* name, ncclComm_t comm, cudaStream_t stream, Part part,
                  ncclDataType_t type) {
  if (comm->status != ncclSuccess || comm->is_aborted) return ncclInvalidArgument;
  part.bytes = part.call.count * width_of(type);
  part.call.type = type;
  ++counters().collectives;
  trace(std::string("call ") + name + " " + std::to_string(part.call.count) + " " +
        std::to_string(type));
  grouped.push_back({comm, stream, part});
  return open_groups > 0 ? ncclSuccess : submit();
}

bool is_dead(int process) {
  if (kill(process, 0) != 0) return true;
  std::ifstream stat("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos || text.compare(name_end + 2, 1, "Z") == 0;
}

// Whether a rank has been dead for long enough.
bool is_rank_lost(ncclComm& comm) {
  bool is_any = false;
  for (int r = 0; r < comm.ranks; ++r) {
    const Member& member = comm.meeting->members[r];
    is_any = is_any || (member.process != 0 && !member.has_left && is_dead(member.process));
  }
  const auto now = SteadyClock::now();
  if (!is_any) comm.missed = {};
  if (is_any && comm.missed == SteadyClock::time_point{}) comm.missed = now;
  return is_any && now - comm.missed > kSilence;
}

std::string host_name() {
  if (const char* told = std::getenv("NCCL_HOSTID")) return told;
  std::array<char, kHostBytes> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

bool is_device_shared(const ncclComm& comm) {
  const Member* members = comm.meeting->members;
  for (int a = 0; a < comm.ranks; ++a) {
    for (int b = 0; b < a; ++b) {
      if (members[a].device == members[b].device &&
          std::strncmp(members[a].host, members[b].host, kHostBytes) == 0) {
        return true;
      }
    }
  }
  return false;
}

ncclResult_t progress_of_start(ncclComm& comm) {
  if (comm.meeting->joined < comm.ranks) return ncclInProgress;
  shm_unlink(comm.name.c_str());
  comm.is_starting = false;
  return is_device_shared(comm) ? ncclInvalidUsage : ncclSuccess;
}

ncclResult_t progress_of_finish(ncclComm& comm) {
  if (comm.in_flight > 0) {
    serve_once();
    return ncclInProgress;
  }
  Member& mine = comm.meeting->members[comm.rank];
  if (!mine.has_left.exchange(true)) ++comm.meeting->left;
  return comm.meeting->left < comm.ranks ? ncclInProgress : ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = settings().nccl;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclRemoteError    ? "remote process exited or there was a network error"
         : status == ncclInvalidUsage ? "invalid usage"
                                      : "another error";
}

const char* ncclGetLastError(ncclComm_t) { return "told by the emulation"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "/ptb_dist_nccl_%d_%08x", getpid(),
                std::random_device{}());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (ranks > kMaxRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  const int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Meeting)) != 0) return ncclSystemError;
  void* memory = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  auto* made = new ncclComm{.meeting = static_cast<Meeting*>(memory),
                            .name = id.internal,
                            .rank = rank,
                            .ranks = ranks,
                            .is_blocking = config == nullptr || config->blocking != 0,
                            .is_starting = true};
  *comm = made;
  Member& mine = made->meeting->members[rank];
  mine.device = current_device();
  std::strncpy(mine.host, host_name().c_str(), kHostBytes - 1);
  mine.process = getpid();
  if (!is_to_fail("nccl-init")) ++made->meeting->joined;
  made->status = ncclInProgress;
  while (made->is_blocking && made->status == ncclInProgress) {
    made->status = progress_of_start(*made);
    usleep(100);
  }
  return made->status;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  if (comm->status == ncclInProgress) {
    if (comm->is_starting) {
      comm->status = progress_of_start(*comm);
    } else if (comm->is_finishing) {
      comm->status = progress_of_finish(*comm);
    } else if (--comm->polls <= 0) {
      comm->status = ncclSuccess;
      put_on_streams(*comm);
    }
  }
  const bool is_healthy = comm->status == ncclSuccess || comm->status == ncclInProgress;
  if (is_healthy && (comm->is_stuck || comm->meeting->is_aborted || is_rank_lost(*comm))) {
    comm->status = ncclRemoteError;
  }
  *status = comm->status;
  return ncclSuccess;
}

// The communicator's memory stays: operations on streams still ask whether it is aborted.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  while (is_to_fail("nccl-abort")) pause();
  shm_unlink(comm->name.c_str());  // where not all have come
  comm->is_aborted = true;
  comm->meeting->is_aborted = true;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm->status != ncclSuccess || comm->is_aborted) return ncclInvalidArgument;
  comm->is_finishing = true;
  comm->status = ncclInProgress;
  while (comm->is_blocking && comm->status == ncclInProgress) {
    comm->status = progress_of_finish(*comm);
  }
  return comm->status;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm->is_finishing || comm->status != ncclSuccess) {
    fail("a communicator of NCCL is destroyed that was not finalised");
  }
  munmap(comm->meeting, sizeof(Meeting));
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (operation != ncclSum) fail("NCCL's reductions other than sums are not emulated");
  return call("all-reduce", comm, stream,
              {.kind = Kind::all_reduce,
               .from = static_cast<const unsigned char*>(from),
               .to = static_cast<unsigned char*>(to),
               .call = {.count = count, .type = 0, .operation = operation},
               .peer = 0,
               .bytes = 0},
              type);
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return call("send", comm, stream,
              {.kind = Kind::send,
               .from = static_cast<const unsigned char*>(from),
               .to = nullptr,
               .call = {.count = count},
               .peer = peer,
               .bytes = 0},
              type);
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return call("receive", comm, stream,
              {.kind = Kind::receive,
               .from = nullptr,
               .to = static_cast<unsigned char*>(to),
               .call = {.count = count},
               .peer = peer,
               .bytes = 0},
              type);
}

ncclResult_t ncclGroupStart() {
  ++open_groups;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() { return --open_groups > 0 ? ncclSuccess : submit(); }

}  // extern "C"
