// What is added over the ranks beside the gradient: losses and requests of one window, in one sum.
#pragma once

#include <cstdint>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

// What a rank requests of the run. Every rank learns of it after the same window.
struct Requests {
  bool stop = false;  // a signal came
  bool save = false;  // rank 0 wants a checkpoint
};

// In device memory: the requests as numbers of ranks, then one loss or more. Only the first loss is
// added over the ranks.
class WindowSums {
 public:
  WindowSums() = default;
  // Zeroed. losses >= 1
  WindowSums(Backend& backend, std::int64_t losses);

  // Of this rank. Enqueues.
  void set_requests(Backend& backend, const Requests& requests) const;
  const Tensor& losses() const { return losses_; }  // [losses] f64, cross-entropy in nats
  const Tensor& sum() const { return sum_; }        // [3] f64: what is added over the ranks

  // What sum() holds, in host memory.
  struct Values {
    Requests requests;
    double cross_entropy = 0;
  };
  static Values read(const Arrival& sum);

 private:
  Tensor all_, losses_, sum_;
};

}  // namespace ptb
