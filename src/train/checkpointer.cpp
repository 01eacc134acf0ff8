#include "ptb_dist/train/checkpointer.hpp"

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <utility>

namespace ptb {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// This rank's lanes of one layer lie together in both; `from` is [L,b,H], `to` [L,B,H].
void place_lanes(std::span<const char> from, LaneSlice lanes, int layers,
                 std::vector<std::byte>& to) {
  if (lanes.count == 0) return;
  const std::size_t layer_bytes = from.size() / static_cast<std::size_t>(layers);
  const std::size_t lane_bytes = layer_bytes / static_cast<std::size_t>(lanes.count);
  to.resize(lane_bytes * static_cast<std::size_t>(lanes.global) * static_cast<std::size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) {
    const std::size_t lane = static_cast<std::size_t>(layer) * lanes.global + lanes.first;
    std::memcpy(to.data() + lane * lane_bytes,
                from.data() + static_cast<std::size_t>(layer) * layer_bytes, layer_bytes);
  }
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
  if (under_way_.valid()) under_way_.wait();
}

void Checkpointer::begin(SavePlace place) {
  place.folder.prepare();
  place_ = std::move(place);
  saved_at_ = Clock::now();
}

bool Checkpointer::is_wanted() {
  if (!place_) return false;
  const bool is_over = under_way_.valid() &&
                       under_way_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (is_over) collect();
  if (failure_) return true;
  return place_->minutes > 0 && seconds_since(saved_at_) >= 60 * place_->minutes;
}

HostState Checkpointer::gathered(const RecurrentState& state, LaneSlice lanes) {
  std::string mine(state.h.bytes() + state.c.bytes(), '\0');
  const std::span<char> bytes(mine);
  backend_.download(state.h, std::as_writable_bytes(bytes.first(state.h.bytes())));
  backend_.download(state.c, std::as_writable_bytes(bytes.subspan(state.h.bytes())));
  const std::vector<std::string> all = session_.gather(mine);
  HostState whole;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const LaneSlice theirs = deal_lanes(lanes.global, static_cast<int>(rank), session_.size());
    const std::span<const char> both(all[rank]);
    const int layers = parameters_.shape().num_layers;
    place_lanes(both.first(both.size() / 2), theirs, layers, whole.h);
    place_lanes(both.subspan(both.size() / 2), theirs, layers, whole.c);
  }
  return whole;
}

void Checkpointer::save(const Progress& progress, const RecurrentState& state, LaneSlice lanes,
                        bool is_best) {
  const HostState whole = gathered(state, lanes);
  session_.on_root([&] {
    join();
    CheckpointInfo info = place_->info;
    info.progress = progress;
    write(checkpoint_image(info, whole, backend_, parameters_), progress.step, is_best);
    saved_at_ = Clock::now();
  });
}

void Checkpointer::write(std::vector<std::byte> image, std::int64_t step, bool is_best) {
  under_way_ =
      std::async(std::launch::async, [this, image = std::move(image), step, is_best]() mutable {
        const Clock::time_point start = Clock::now();
        seal_checkpoint(image);
        faults_.at(Fault::Phase::save, step);
        const std::filesystem::path file = place_->folder.file(place_->generation, step);
        place_->folder.write(file, image);
        if (is_best) place_->folder.write(place_->folder.best(), image);
        place_->folder.prune(place_->keep);
        return fmt::format("Checkpoint: {}{} ({:.1f} MB, {:.2f} s)", file.string(),
                           is_best ? " and best.h5" : "", static_cast<double>(image.size()) / 1e6,
                           seconds_since(start));
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
  if (under_way_.valid()) collect();
  if (failure_) std::rethrow_exception(failure_);
}

void Checkpointer::finish() {
  session_.on_root([&] { join(); });
}

}  // namespace ptb
