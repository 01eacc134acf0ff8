// The windows of a split as one group of lanes sees them, and the one of them that is computed.
#pragma once

#include <cstdint>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/data/lanes.hpp"

namespace ptb {

// A window in device memory: the arrays of Window, with room for the largest one.
struct WindowTensors {
  Tensor inputs, targets;  // [T·B] i32
  // For training only:
  Tensor positions;         // [T·B] i32
  Tensor row_begin, words;  // [max_words+1], [max_words] i32
  Tensor word_count;        // [1] i32: U
};

// All windows are copied to device memory once. So a step copies none from the host, and a captured
// segment begins the next one by itself.
struct Batch {
  Batch() = default;
  // `max_words`: at least the distinct words of any window, split.most_words(); 0: evaluation, which
  // needs none.
  Batch(Backend& backend, const Lanes& split, LaneSlice lanes, std::int64_t max_words);

  // What the host has to know of a window, 0 <= window < split.windows().
  void select(int window);
  // Enqueues that `tensors` become those of StepState's window, which is to be the selected one.
  void load(Backend& backend) const;

  LaneSlice lanes;              // B = lanes.count
  int num_steps = 0;            // T of the selected window
  std::int64_t word_count = 0;  // U of the selected window
  WindowTensors tensors;        // of the loaded window, at addresses that stay

 private:
  struct Extent {
    int num_steps = 0;
    std::int64_t word_count = 0;
  };

  std::vector<Extent> extents_;  // of each window
  Tensor table_;                 // [windows,n] i32: the tensors of each window, one after the other
  Tensor row_;                   // [n] i32, whose parts `tensors` are
};

// Bytes of device memory that a batch of so many lanes takes.
std::int64_t batch_bytes(const Lanes& split, std::int64_t lanes, std::int64_t max_words);

}  // namespace ptb
