#include "ptb_dist/train/window_sums.hpp"

#include <array>
#include <span>

namespace ptb {
namespace {

constexpr std::int64_t kRequests = 2;  // stop, save

}  // namespace

WindowSums::WindowSums(Backend& backend, std::int64_t losses)
    : all_(backend.allocate(ElementType::f64, {kRequests + losses})),
      losses_(all_.slice(kRequests, losses)),
      sum_(all_.slice(0, kRequests + 1)) {}

void WindowSums::set_requests(Backend& backend, const Requests& requests) const {
  const std::array<double, kRequests> values{requests.stop ? 1.0 : 0.0, requests.save ? 1.0 : 0.0};
  backend.upload(all_.slice(0, kRequests), std::as_bytes(std::span(values)));
}

WindowSums::Values WindowSums::read(const Arrival& sum) {
  const std::span<const double> values = sum.read<double>(kRequests + 1);
  return {.requests = {.stop = values[0] > 0, .save = values[1] > 0}, .cross_entropy = values[2]};
}

}  // namespace ptb
