#include "ptb_dist/model/batch.hpp"

#include <span>

namespace ptb {
namespace {

// Elements of a window's tensors.
std::int64_t row_elements(const Lanes& split, std::int64_t lanes, std::int64_t max_words) {
  const std::int64_t positions = split.num_steps() * lanes;
  return max_words == 0 ? 2 * positions : 3 * positions + (max_words + 1) + max_words + 1;
}

// `row` as the tensors of a window.
WindowTensors parts_of(const Tensor& row, std::int64_t positions, std::int64_t max_words) {
  std::int64_t used = 0;
  const auto take = [&](std::int64_t count) {
    used += count;
    return row.view(used - count, {count});
  };
  WindowTensors parts;
  parts.inputs = take(positions);
  parts.targets = take(positions);
  if (max_words == 0) return parts;
  parts.positions = take(positions);
  parts.row_begin = take(max_words + 1);
  parts.words = take(max_words);
  parts.word_count = take(1);
  return parts;
}

void upload_front(Backend& backend, const Tensor& to, std::span<const std::int32_t> from) {
  backend.upload(to.view({std::ssize(from)}), std::as_bytes(from));
}

void upload_window(Backend& backend, const WindowTensors& to, const Window& from) {
  upload_front(backend, to.inputs, from.inputs);
  upload_front(backend, to.targets, from.targets);
  if (to.words.empty()) return;
  const auto word_count = static_cast<std::int32_t>(from.words.size());
  upload_front(backend, to.positions, from.positions);
  upload_front(backend, to.row_begin, from.row_begin);
  upload_front(backend, to.words, from.words);
  upload_front(backend, to.word_count, {&word_count, 1});
}

}  // namespace

Batch::Batch(Backend& backend, const Lanes& split, LaneSlice slice, std::int64_t max_words)
    : lanes(slice) {
  const std::int64_t positions = std::int64_t{split.num_steps()} * slice.count;
  const std::int64_t elements = row_elements(split, slice.count, max_words);
  table_ = backend.allocate(ElementType::i32, {split.windows(), elements});
  row_ = backend.allocate(ElementType::i32, {elements});
  tensors = parts_of(row_, positions, max_words);
  Window window;
  for (int index = 0; index < split.windows(); ++index) {
    split.fill(window, index, slice, max_words > 0);
    upload_window(backend, parts_of(table_[index], positions, max_words), window);
    extents_.push_back({.num_steps = window.num_steps, .word_count = std::ssize(window.words)});
  }
}

void Batch::select(int window) {
  require(0 <= window && window < std::ssize(extents_), "0 <= window < windows of the split");
  const Extent& extent = extents_[static_cast<std::size_t>(window)];
  num_steps = extent.num_steps;
  word_count = extent.word_count;
}

void Batch::load(Backend& backend) const { backend.load_window({.table = table_, .to = row_}); }

std::int64_t batch_bytes(const Lanes& split, std::int64_t lanes, std::int64_t max_words) {
  return (split.windows() + 1) * row_elements(split, lanes, max_words) *
         static_cast<std::int64_t>(size_of(ElementType::i32));
}

}  // namespace ptb
