// The windows of a split in device memory, and the one of them that is computed. All are copied there
// once: so a step copies none from the host, and a captured segment begins the next one by itself.
//
// What the device begins is StepState's window; what the host knows of is the selected one. Whoever
// runs a window sees to it that both are the same.
#pragma once

#include <cstdint>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/data/lanes.hpp"

namespace ptb {

// The distinct words of the global window: of a rank, for all its groups.
struct BatchWords {
  BatchWords(Backend& backend, const Lanes& split);

  void select(int window) { count = std::ssize(of_windows.of(window)); }
  // Enqueues that `ids` and `device_count` become those of StepState's window.
  void load(Backend& backend) const;

  WindowWords of_windows;
  std::int64_t max_count;  // R, of any window
  std::int64_t count = 0;  // U of the selected window
  Tensor ids;              // [R] i32, ascending; at an address that stays, like what follows
  Tensor device_count;     // [1] i32: U where operations read it

 private:
  Tensor table_;  // [windows,R+1] i32: ids and count of each window
  Tensor row_;    // [R+1] i32, whose parts `ids` and `device_count` are
};

// A window as one group of lanes sees it. Arrays have room for the window with most steps.
struct WindowTensors {
  Tensor inputs, targets;       // [T·B] i32
  Tensor positions, row_begin;  // [T·B], [R+1] i32, see WordPositions; training only
};

struct Batch {
  Batch() = default;
  // Without `words` for evaluation; they outlive the batch.
  Batch(Backend& backend, const Lanes& split, LaneSlice lanes, const BatchWords* words = nullptr);

  // 0 <= window < split.windows()
  void select(int window);
  // Enqueues that `tensors` become those of StepState's window, and so the words.
  void load(Backend& backend) const;

  LaneSlice lanes;                    // B = lanes.count
  int num_steps = 0;                  // T of the selected window
  const BatchWords* words = nullptr;  // of the same selected window
  WindowTensors tensors;              // at addresses that stay

 private:
  std::vector<int> steps_;  // of each window
  Tensor table_;            // [windows,n] i32: the tensors of each window, one after the other
  Tensor row_;              // [n] i32, whose parts `tensors` are
};

// Bytes of device memory that they take; `max_words` is R, 0 for evaluation.
std::int64_t batch_words_bytes(const Lanes& split, std::int64_t max_words);
std::int64_t batch_bytes(const Lanes& split, std::int64_t lanes, std::int64_t max_words);

}  // namespace ptb
