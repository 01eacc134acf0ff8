#include "backend/cuda/staging.hpp"

#include <algorithm>
#include <cstring>

#include "ptb_dist/base/error.hpp"

namespace ptb::cuda {
namespace {

// A step uploads two small records, so a half lasts thousands of steps, and its copies have ended
// long before it is used again. Larger uploads, at the start and end of a run, go in pieces.
constexpr std::size_t kHalfBytes = std::size_t{2} << 20;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kDownloadBytes = std::size_t{1} << 20;

}  // namespace

Staging::Staging(cudaStream_t stream)
    : stream_(stream), downloaded_(allocate_pinned(kDownloadBytes)) {
  for (Half& half : halves_) half = {allocate_pinned(kHalfBytes), make_event()};
}

void Staging::begin_half() {
  check(cudaEventRecord(halves_[half_].copied.get(), stream_));
  half_ = 1 - half_;
  used_ = 0;
  const cudaEvent_t copied = halves_[half_].copied.get();
  if (!has_happened(copied)) check(cudaEventSynchronize(copied));
}

void Staging::upload(void* to, std::span<const std::byte> from) {
  auto* target = static_cast<std::byte*>(to);
  while (!from.empty()) {
    if (used_ == kHalfBytes) begin_half();
    const std::size_t bytes = std::min(from.size(), kHalfBytes - used_);
    std::byte* const place = halves_[half_].memory.get() + used_;
    std::memcpy(place, from.data(), bytes);
    check(cudaMemcpyAsync(target, place, bytes, cudaMemcpyHostToDevice, stream_));
    used_ = std::min(kHalfBytes, (used_ + bytes + kAlignment - 1) / kAlignment * kAlignment);
    target += bytes;
    from = from.subspan(bytes);
  }
}

void Staging::download(const void* from, std::span<std::byte> to) {
  const auto* source = static_cast<const std::byte*>(from);
  while (!to.empty()) {
    const std::size_t bytes = std::min(to.size(), kDownloadBytes);
    check(cudaMemcpyAsync(downloaded_.get(), source, bytes, cudaMemcpyDeviceToHost, stream_));
    check(cudaStreamSynchronize(stream_));
    std::memcpy(to.data(), downloaded_.get(), bytes);
    source += bytes;
    to = to.subspan(bytes);
  }
}

std::shared_ptr<std::byte> ArrivalPool::take(std::size_t bytes) {
  require(bytes <= kBytes, "only a few scalars are downloaded without a wait");
  if (idle_->empty()) idle_->push_back(allocate_pinned(kBytes));
  std::shared_ptr<std::byte> memory = std::move(idle_->back());
  idle_->pop_back();
  std::byte* const address = memory.get();
  return {address, [idle = idle_, memory = std::move(memory)](std::byte*) mutable {
            idle->push_back(std::move(memory));
          }};
}

}  // namespace ptb::cuda
