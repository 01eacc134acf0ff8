#include "ptb_dist/run/checkpointer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

double guessed_seconds(const Parameters& parameters) {
  constexpr double kBytesPerSecond = 20e6;  // of a slow disk, shared by many
  return static_cast<double>(parameters.slab().bytes()) / kBytesPerSecond;
}

// A group's lanes, and their part of each tensor of the state.
struct GroupState {
  LaneSlice lanes{};
  std::vector<std::vector<std::byte>> tensors{};

  static auto members(auto& self) {
    auto& [lanes, tensors] = self;
    return std::tie(lanes, tensors);
  }
};

// Into a tensor [B,...] of all lanes.
void place_lanes(LaneSlice lanes, std::span<const std::byte> from, HostTensor& to) {
  const std::size_t lane_bytes = to.values.size() / static_cast<std::size_t>(lanes.global);
  std::memcpy(to.values.data() + lane_bytes * static_cast<std::size_t>(lanes.first), from.data(),
              from.size());
}

}  // namespace

SavePlace save_place(const RunDirectory& directory, const RunIdentity& identity,
                     const Config& config, const Plan& plan, Report& report) {
  const auto keep = static_cast<int>(config.keep_checkpoints);
  SavePlace place = {.folder = directory.checkpoints(),
                     .generation = directory.generation(),
                     .keep = keep,
                     .minutes = keep > 0 ? config.checkpoint_minutes : 0,
                     .info = {.config = mathematical(config),
                              .corpus = identity.corpus,
                              .exact_class = identity.exact_class,
                              .real = identity.real}};
  place.info.config.batch_size = plan.global_lanes;
  place.folder.prepare();
  const std::int64_t free = place.folder.free_bytes();
  if (keep > 0 && free < 2 * plan.checkpoint_bytes) {
    report.warning(fmt::format("{}: a checkpoint takes about {}, and its disk has {} free",
                               place.folder.path().string(), bytes_text(plan.checkpoint_bytes),
                               bytes_text(free)));
  }
  return place;
}

Checkpointer::Checkpointer(Session& session, Backend& backend, const Parameters& parameters,
                           Report& report, Faults& faults, std::optional<SavePlace> place)
    : session_(session),
      backend_(backend),
      parameters_(parameters),
      report_(report),
      faults_(faults),
      place_(std::move(place)),
      longest_save_(place_ && place_->keep > 0 ? guessed_seconds(parameters) : 0) {}

Checkpointer::~Checkpointer() {
  if (is_over(session_.timeout())) return;
  // The destructor of a future waits without a limit.
  console::write(console::Stream::error,
                 "ptb_dist: error: a checkpoint was not on the disk in time\n");
  session_.abort(ExitCode::io);
}

bool Checkpointer::wants_save() {
  if (!place_ || !is_over(Session::Seconds(0))) return false;
  if (under_way_.valid()) collect();
  if (failure_) return true;
  return place_->minutes > 0 && since_save_.seconds() >= 60 * place_->minutes;
}

// A group is sent as its lanes and their part of each tensor of the state.
HostState Checkpointer::gathered(std::span<const LaneGroup> groups) {
  std::vector<GroupState> mine;
  for (const LaneGroup& group : groups) {
    GroupState& of_group = mine.emplace_back(GroupState{.lanes = group.lanes});
    for (const Tensor& tensor : group.state.tensors()) {
      backend_.download(tensor, of_group.tensors.emplace_back(tensor.bytes()));
    }
  }
  HostState whole;
  for (const std::vector<GroupState>& of_rank : session_.gather(mine)) {
    for (const GroupState& group : of_rank) {
      if (whole.empty()) {
        whole = make_host_state(state_table(parameters_.shape(), group.lanes.global),
                                backend_.real_type());
      }
      for (std::size_t i = 0; i < whole.size(); ++i) {
        place_lanes(group.lanes, group.tensors[i], whole[i]);
      }
    }
  }
  return whole;
}

void Checkpointer::save(const Progress& progress, std::span<const LaneGroup> groups, bool is_best) {
  const Stopwatch watch;
  const HostState whole = gathered(groups);
  session_.on_root([&] {
    join();
    CheckpointInfo info = place_->info;
    info.progress = progress;
    write({.image = checkpoint_image(info, whole, backend_, parameters_),
           .step = progress.step,
           .is_best = is_best,
           .waited = watch.seconds()});
    since_save_ = {};
  });
}

void Checkpointer::write(Save save) {
  under_way_ = std::async(std::launch::async, [this, save = std::move(save)]() mutable {
    const Stopwatch watch;
    const std::vector<std::byte> bytes = sealed(std::move(save.image));
    faults_.at(Fault::Phase::save, save.step);
    report_.sync();
    const std::filesystem::path file = place_->folder.file(place_->generation, save.step);
    place_->folder.write(file, bytes);
    if (save.is_best) place_->folder.write(place_->folder.best(), bytes);
    place_->folder.prune(place_->keep);
    const double seconds = save.waited + watch.seconds();
    longest_save_ = is_save_measured_ ? std::max(longest_save_.load(), seconds) : seconds;
    is_save_measured_ = true;
    return fmt::format("Checkpoint: {}{} ({}; training waited {:.3f} s, saved in {:.3f} s)",
                       file.string(), save.is_best ? " and best.h5" : "",
                       bytes_text(std::ssize(bytes)), save.waited, watch.seconds());
  });
}

bool Checkpointer::is_over(Session::Seconds patience) const {
  const auto most = std::chrono::duration_cast<AwakeClock::duration>(patience);
  return !under_way_.valid() || wait_awake(most, [this](AwakeClock::duration left) {
    return under_way_.wait_for(left) == std::future_status::ready;
  });
}

void Checkpointer::collect() {
  try {
    report_.line(under_way_.get());
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Checkpointer::join() {
  // Before the other ranks give up waiting for this one.
  const Session::Seconds patience = 0.8 * session_.timeout();
  if (!is_over(patience)) {
    throw Error(ExitCode::io,
                {.what = "a checkpoint is not on the disk yet",
                 .where = place_->folder.path().string(),
                 .why = fmt::format("it was begun {:.0f} s ago", since_save_.seconds()),
                 .remedy = "check the disk, or raise --timeout if it is only slow"});
  }
  if (under_way_.valid()) collect();
  if (failure_) std::rethrow_exception(failure_);
}

void Checkpointer::finish() {
  session_.on_root([&] { join(); });
}

}  // namespace ptb
