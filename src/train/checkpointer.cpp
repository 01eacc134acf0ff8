#include "ptb_dist/train/checkpointer.hpp"

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <utility>

#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/console.hpp"

namespace ptb {
namespace {

// A group's lanes as they travel to rank 0; h and c follow.
struct GroupHead {
  LaneSlice lanes;
  std::int64_t state_bytes = 0;  // of h, and of c
};

// A group's lanes of one layer lie together in both; `from` is [L,b,H], `to` [L,B,H].
void place_lanes(std::span<const std::byte> from, LaneSlice lanes, int layers,
                 std::vector<std::byte>& to) {
  const std::size_t layer_bytes = from.size() / static_cast<std::size_t>(layers);
  const std::size_t lane_bytes = layer_bytes / static_cast<std::size_t>(lanes.count);
  const auto lanes_of_all = static_cast<std::size_t>(lanes.global);
  to.resize(lane_bytes * lanes_of_all * static_cast<std::size_t>(layers));
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(layers); ++layer) {
    const std::size_t lane = layer * lanes_of_all + static_cast<std::size_t>(lanes.first);
    std::memcpy(to.data() + lane * lane_bytes, from.data() + layer * layer_bytes, layer_bytes);
  }
}

void append(std::string& text, std::span<const std::byte> bytes) {
  text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

Checkpointer::Checkpointer(Session& session, Backend& backend, const Parameters& parameters,
                           Report& report, Faults& faults)
    : session_(session),
      backend_(backend),
      parameters_(parameters),
      report_(report),
      faults_(faults) {}

Checkpointer::~Checkpointer() {
  if (is_over(session_.timeout())) return;
  // The destructor of a future waits for ever.
  console::write(console::Stream::error,
                 "ptb_dist: error: the disk has not taken a checkpoint in time\n");
  session_.abort(ExitCode::io);
}

void Checkpointer::begin(SavePlace place) {
  place.folder.prepare();
  place_ = std::move(place);
  since_save_ = {};
}

bool Checkpointer::poll() {
  if (!place_ || !is_over(Session::Seconds(0))) return false;
  if (under_way_.valid()) collect();
  if (failure_) return true;
  return place_->minutes > 0 && since_save_.seconds() >= 60 * place_->minutes;
}

HostState Checkpointer::gathered(std::span<const LaneGroup> groups) {
  std::string mine;
  std::vector<std::byte> values;
  for (const LaneGroup& group : groups) {
    const GroupHead head{group.lanes, static_cast<std::int64_t>(group.state.h.bytes())};
    append(mine, std::as_bytes(std::span(&head, 1)));
    values.resize(group.state.h.bytes());
    for (const Tensor& state : {group.state.h, group.state.c}) {
      backend_.download(state, values);
      append(mine, values);
    }
  }
  HostState whole;
  const int layers = parameters_.shape().num_layers;
  for (const std::string& text : session_.gather(mine)) {
    std::span<const std::byte> rest = std::as_bytes(std::span(text));
    while (!rest.empty()) {
      GroupHead head;
      std::memcpy(&head, rest.data(), sizeof head);
      const auto bytes = static_cast<std::size_t>(head.state_bytes);
      place_lanes(rest.subspan(sizeof head, bytes), head.lanes, layers, whole.h);
      place_lanes(rest.subspan(sizeof head + bytes, bytes), head.lanes, layers, whole.c);
      rest = rest.subspan(sizeof head + 2 * bytes);
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
    std::vector<std::byte> image = checkpoint_image(info, whole, backend_, parameters_);
    write({.image = std::move(image),
           .step = progress.step,
           .is_best = is_best,
           .waited = watch.seconds()});
    since_save_ = {};
  });
}

void Checkpointer::write(Save save) {
  under_way_ = std::async(std::launch::async, [this, save = std::move(save)]() mutable {
    const Stopwatch watch;
    seal_checkpoint(save.image);
    faults_.at(Fault::Phase::save, save.step);
    report_.sync();
    const std::filesystem::path file = place_->folder.file(place_->generation, save.step);
    place_->folder.write(file, save.image);
    if (save.is_best) place_->folder.write(place_->folder.best(), save.image);
    place_->folder.prune(place_->keep);
    return fmt::format("Checkpoint: {}{} ({:.1f} MB; training waited {:.3f} s, saved in {:.3f} s)",
                       file.string(), save.is_best ? " and best.h5" : "",
                       static_cast<double>(save.image.size()) / 1e6, save.waited, watch.seconds());
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
                 .remedy = "look at the disk, or raise --timeout if it is only slow"});
  }
  if (under_way_.valid()) collect();
  if (failure_) std::rethrow_exception(failure_);
}

void Checkpointer::finish() {
  session_.on_root([&] { join(); });
}

}  // namespace ptb
