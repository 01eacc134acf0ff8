// All windows of a split in device memory, and the current one. They are copied there once, so a
// step copies nothing from the host, and a captured segment loads the next window by itself.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/data/lanes.hpp"

namespace ptb {

// The distinct words of the global window; all groups of a rank share them.
class BatchWords {
 public:
  BatchWords(Backend& backend, const Lanes& split);

  const Tensor& ids() const { return ids_; }              // [R] i32, ascending; a fixed address
  const Tensor& device_count() const { return count_; }   // [1] i32, U; a fixed address
  std::int64_t max_count() const { return max_count_; }   // R, of any window
  std::int64_t count() const { return selected_count_; }  // U of the window that has begun
  std::span<const std::int32_t> of(int window) const { return of_windows_.of(window); }

  // Enqueues the copy of StepState's window into ids() and device_count().
  void load(Backend& backend) const;

 private:
  friend class Windows;
  void select(int window) { selected_count_ = std::ssize(of(window)); }

  WindowWords of_windows_;
  std::int64_t max_count_;
  std::int64_t selected_count_ = 0;
  Tensor table_;  // [windows,R+1] i32: ids and count of each window
  Tensor row_;    // [R+1] i32; ids_ and count_ are views of it
  Tensor ids_, count_;
};

// A window as one group of lanes sees it. The arrays have room for the longest window.
struct WindowTensors {
  Tensor inputs, targets;       // [T·B] i32
  Tensor positions, row_begin;  // [T·B], [R+1] i32, see WordPositions; training only
};

// The windows of one group of lanes.
class Batch {
 public:
  // Without `words` for evaluation; they outlive the batch.
  Batch(Backend& backend, const Lanes& split, LaneSlice lanes, const BatchWords* words);

  const LaneSlice& lanes() const { return lanes_; }          // B = lanes().count
  int num_steps() const { return num_steps_; }               // T of the window that has begun
  const BatchWords& words() const { return *words_; }        // of that window; training only
  const WindowTensors& tensors() const { return tensors_; }  // of that window; fixed addresses

  // Enqueues the copy of StepState's window into tensors() and, for training, into words().
  void load(Backend& backend) const;

 private:
  friend class Windows;
  void select(int window);

  LaneSlice lanes_;
  int num_steps_ = 0;
  const BatchWords* words_;
  WindowTensors tensors_;
  std::vector<int> steps_;  // of each window
  Tensor table_;            // [windows,n] i32: the tensors of each window, one after the other
  Tensor row_;              // [n] i32; `tensors_` are views of it
};

// A split, window by window, for all groups of a rank.
class Windows {
 public:
  enum class Use { training, evaluation };  // training needs the words of each window

  // The lanes of the groups, in their order. Copies what it needs of the split.
  Windows(Backend& backend, const Lanes& split, std::span<const LaneSlice> groups, Use use);
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;

  // Begins a window; nothing else does. Operations enqueued from here on read this window
  // (StepState), and batches and words describe it. 0 <= step.window < windows of the split.
  void begin(const StepState& step);

  // The references stay valid as long as this object.
  const Batch& batch(std::size_t group) const { return batches_[group]; }
  const BatchWords& words() const { return *words_; }  // training only

 private:
  Backend& backend_;
  std::optional<BatchWords> words_;
  std::deque<Batch> batches_;
};

// Bytes of device memory that they take; `max_words` is R, 0 for evaluation.
std::int64_t batch_words_bytes(const Lanes& split, std::int64_t max_words);
std::int64_t batch_bytes(const Lanes& split, std::int64_t lanes, std::int64_t max_words);

}  // namespace ptb
