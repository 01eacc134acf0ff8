#include "ptb_dist/comm/session.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <system_error>
#include <thread>

#include "comm/mpi_api.hpp"
#include "comm/session/roll_call.hpp"
#include "comm/session/startup.hpp"
#include "comm/sums/host_sums.hpp"
#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

constexpr int kGatherTag = 0;
constexpr int kFirstSumTag = 1;
constexpr int kRollCallTag = kFirstSumTag + HostSums::kTags;

mpi::Comm copy_of_world(int* argc, char*** argv) {
  initialise_mpi(argc, argv);
  MPI_Comm comm = MPI_COMM_NULL;
  mpi::check(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
  return mpi::Comm(comm);
}

mpi::Comm ranks_of_this_host(const mpi::Comm& all) {
  MPI_Comm comm = MPI_COMM_NULL;
  mpi::check(MPI_Comm_split_type(all.get(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm));
  return mpi::Comm(comm);
}

std::string name_of_this_host() {
  std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
  int length = 0;
  mpi::check(MPI_Get_processor_name(name.data(), &length));
  return {name.data(), static_cast<std::size_t>(length)};
}

}  // namespace

// In the order in which they begin. They end in the opposite one, also where one of them throws.
struct Session::Mpi {
  Mpi(int* argc, char*** argv) : comm(copy_of_world(argc, argv)) {}

  mpi::Comm comm;  // our own: nobody else's messages
  mpi::Comm host = ranks_of_this_host(comm);
  HostSums sums{comm, kFirstSumTag};
  RollCall roll_call{comm, kRollCallTag};
  // By rank; known once all have told theirs.
  std::vector<std::string> hosts =
      std::vector<std::string>(static_cast<std::size_t>(comm.size()), "an unknown host");
};

Session::Session(int* argc, char*** argv)
    : mpi_(std::make_unique<Mpi>(argc, argv)),
      rank_(mpi_->comm.rank()),
      size_(mpi_->comm.size()),
      host_rank_(mpi_->host.rank()),
      host_size_(mpi_->host.size()),
      host_(name_of_this_host()) {
  static_assert(MPI_MAX_PROCESSOR_NAME <= kIdentityBytes);
  mpi_->hosts = exchange_identity(host_);
}

Session::~Session() {
  if (std::uncaught_exceptions() > 0) {
    console::write(console::Stream::error,
                   fmt::format("ptb_dist: error: rank {} ({}): an exception ended the session\n",
                               rank_, one_line(host_)));
    abort(ExitCode::internal);
  }
  try {
    // MPI_Finalize waits for the other ranks without a deadline.
    MPI_Request barrier = MPI_REQUEST_NULL;
    mpi::check(MPI_Ibarrier(mpi_->comm.get(), &barrier));
    wait_until([&] { return mpi::is_over(barrier); }, "the other ranks' end");
    mpi_->host.free();
    mpi_->comm.free();
    mpi::check(MPI_Finalize());
  } catch (const Error& error) {
    for (const std::string& line : error.lines()) {
      console::write(console::Stream::error, fmt::format("ptb_dist: error: {}\n", line));
    }
    abort(error.code());
  }
}

std::string Session::library_version() {
  std::string text(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  mpi::check(MPI_Get_library_version(text.data(), &length));
  text.resize(static_cast<std::size_t>(length));
  // "Open MPI v4.1.4, package: ...", "MPICH Version:\t4.0.2\nMPICH Release date: ..."
  text.resize(std::min(text.find_first_of(std::string_view(",\n\0", 3)), text.size()));
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

// Latency needs spinning, but ranks that share a core need it given away: on 2 cores a small sum of
// 8 ranks that only spin takes 16 ms; like this 0.02 ms, with and without mpi_yield_when_idle.
// After 2 ms the other rank is computing: a nap leaves it the core and costs at most 5 % of the
// wait.
void Session::wait_until(const std::function<bool()>& is_over, const std::string& what) {
  constexpr int kSpins = 50;
  constexpr auto kYieldFor = std::chrono::milliseconds(2);
  constexpr auto kNap = std::chrono::microseconds(50);
  constexpr auto kAttention = std::chrono::milliseconds(100);  // from when on others may ask for us
  const auto start = AwakeClock::now();
  for (int polls = 0;; ++polls) {
    mpi_->sums.advance();
    if (is_over()) return;
    if (polls < kSpins) continue;
    const auto waited = AwakeClock::now() - start;
    if (waited > timeout_) throw missed_deadline(what);
    if (waited < kYieldFor) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
    if (waited > kAttention) mpi_->roll_call.answer();
  }
}

// Names the ranks that do not wait, as this one does.
Error Session::missed_deadline(const std::string& what) {
  constexpr auto kPatience = std::chrono::seconds(1);
  constexpr std::size_t kNamed = 8;
  Complaint complaint{.what = fmt::format("waited {:g} s for {}", timeout_.count(), what),
                      .where = fmt::format("rank {} of {} on {}", rank_, size_, host_)};
  const std::vector<int> silent = mpi_->roll_call.find_silent(kPatience);
  if (silent.empty()) {
    complaint.why = size_ == 1 ? "the device stands still" : "all other ranks wait, too";
    complaint.remedy = size_ == 1 ? "look at its driver" : "look at the network and the devices";
    return {ExitCode::internal, complaint};
  }
  std::string names;
  for (std::size_t k = 0; k < std::min(kNamed, silent.size()); ++k) {
    names += fmt::format("{}rank {} on {}", k == 0 ? "" : ", ", silent[k],
                         mpi_->hosts[static_cast<std::size_t>(silent[k])]);
  }
  if (silent.size() > kNamed) names += fmt::format(" and {} more", silent.size() - kNamed);
  complaint.why = fmt::format("no sign of {}: lost, stopped or much slower", names);
  complaint.remedy = "see what became of it; raise --timeout if it was only slow";
  return {ExitCode::internal, complaint};
}

void Session::broadcast(std::span<std::byte> bytes) {
  mpi::for_each_piece(bytes.size(), [&](std::size_t first, int count) {
    MPI_Request request = MPI_REQUEST_NULL;
    mpi::check(MPI_Ibcast(bytes.data() + first, count, MPI_BYTE, 0, mpi_->comm.get(), &request));
    wait_until([&] { return mpi::is_over(request); },
               fmt::format("rank 0's broadcast of {}", bytes_text(std::ssize(bytes))));
  });
}

std::vector<std::string> Session::gather_texts(const std::string& text) {
  std::uint64_t mine = text.size();
  std::vector<std::uint64_t> sizes(is_root() ? static_cast<std::size_t>(size_) : 0);
  MPI_Request request = MPI_REQUEST_NULL;
  mpi::check(MPI_Igather(&mine, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, 0, mpi_->comm.get(),
                         &request));
  wait_until([&] { return mpi::is_over(request); }, "the sizes of a gather");

  if (!is_root()) {
    mpi::for_each_piece(text.size(), [&](std::size_t first, int count) {
      mpi::check(MPI_Isend(text.data() + first, count, MPI_BYTE, 0, kGatherTag, mpi_->comm.get(),
                           &request));
      wait_until([&] { return mpi::is_over(request); }, "rank 0 to take a gathered text");
    });
    return {};
  }
  std::vector<std::string> texts{text};
  for (int from = 1; from < size_; ++from) {
    std::string& theirs = texts.emplace_back(sizes[static_cast<std::size_t>(from)], '\0');
    mpi::for_each_piece(theirs.size(), [&](std::size_t first, int count) {
      mpi::check(MPI_Irecv(theirs.data() + first, count, MPI_BYTE, from, kGatherTag,
                           mpi_->comm.get(), &request));
      wait_until(
          [&] { return mpi::is_over(request); },
          fmt::format("a gathered text of {} from rank {}", bytes_text(std::ssize(theirs)), from));
    });
  }
  return texts;
}

std::vector<std::string> Session::exchange_identity(const std::string& identity) {
  require(identity.size() <= kIdentityBytes, "an identity has at most 256 bytes");
  std::array<char, kIdentityBytes> mine{};
  std::copy(identity.begin(), identity.end(), mine.begin());
  std::vector<std::array<char, kIdentityBytes>> all(static_cast<std::size_t>(size_));
  MPI_Request request = MPI_REQUEST_NULL;
  mpi::check(MPI_Iallgather(mine.data(), kIdentityBytes, MPI_BYTE, all.data(), kIdentityBytes,
                            MPI_BYTE, mpi_->comm.get(), &request));
  wait_until([&] { return mpi::is_over(request); }, "the ranks' identities");

  std::vector<std::string> texts;
  for (const auto& padded : all) {
    texts.emplace_back(padded.begin(), std::find(padded.begin(), padded.end(), '\0'));
  }
  return texts;
}

void Session::gather_on_host(std::span<const std::byte> bytes, std::span<std::byte> all) {
  const auto count = static_cast<int>(bytes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  mpi::check(MPI_Iallgather(bytes.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE,
                            mpi_->host.get(), &request));
  wait_until([&] { return mpi::is_over(request); }, "the ranks of this host");
}

Session::Request Session::begin_all_reduce(const Tensor& tensor, SumOrder order) {
  return mpi_->sums.begin(tensor, order);
}

void Session::wait(const Request& request, const std::string& what) {
  if (request != nullptr) wait_until([&] { return request->is_over(); }, what);
}

void Session::abort(ExitCode code) {
  constexpr auto kLastWords = std::chrono::seconds(1);
  // A launcher that is cut off or stopped never carries an abort out.
  try {
    std::thread([code] {
      sleep_awake(std::chrono::seconds(5));
      ::_exit(static_cast<int>(code));
    }).detach();
  } catch (const std::system_error&) {  // a limit on threads: then MPI alone must do
  }
  console::flush(kLastWords);
  std::fflush(nullptr);  // what a library has said; nobody may read it
  if (size_ > 1) MPI_Abort(mpi_->comm.get(), static_cast<int>(code));
  ::_exit(static_cast<int>(code));
}

}  // namespace ptb
