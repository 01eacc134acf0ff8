#include "ptb_dist/model/batch.hpp"

#include <algorithm>
#include <span>

namespace ptb {
namespace {

// Where a window's arrays begin in a row of a batch's table. The inputs begin at 0.
struct RowLayout {
  RowLayout(const Lanes& split, std::int64_t lanes, std::int64_t max_words)
      : capacity(split.num_steps() * lanes),
        starts(max_words == 0 ? 0 : max_words + 1),
        targets(capacity),
        positions(2 * capacity),
        row_begin(starts == 0 ? positions : 3 * capacity),
        elements(row_begin + starts) {}

  std::int64_t capacity;  // of inputs, targets and positions
  std::int64_t starts;    // elements of row_begin
  std::int64_t targets, positions, row_begin, elements;
};

// A table [windows,n] in host memory, filled piece by piece.
class HostTable {
 public:
  HostTable(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}

  void put(std::int64_t row, std::int64_t column, std::span<const std::int32_t> values) {
    std::ranges::copy(values, values_.begin() + row * columns_ + column);
  }
  Tensor upload(Backend& backend) const {
    const Tensor table = backend.allocate(ElementType::i32, {rows_, columns_});
    backend.upload(table, std::as_bytes(std::span(values_)));
    return table;
  }

 private:
  std::int64_t rows_, columns_;
  std::vector<std::int32_t> values_;
};

std::int64_t table_bytes(const Lanes& split, std::int64_t columns) {
  return (split.windows() + 1) * columns * static_cast<std::int64_t>(size_of(ElementType::i32));
}

}  // namespace

BatchWords::BatchWords(Backend& backend, const Lanes& split)
    : of_windows_(split), max_count_(of_windows_.most()) {
  HostTable table(split.windows(), max_count_ + 1);
  for (int window = 0; window < split.windows(); ++window) {
    const std::span<const std::int32_t> words = of(window);
    const auto size = static_cast<std::int32_t>(words.size());
    table.put(window, 0, words);
    table.put(window, max_count_, {&size, 1});
  }
  table_ = table.upload(backend);
  row_ = backend.allocate(ElementType::i32, {max_count_ + 1});
  ids_ = row_.view({max_count_});
  count_ = row_.view(max_count_, {1});
}

void BatchWords::load(Backend& backend) const {
  backend.load_window({.table = table_, .to = row_});
}

Batch::Batch(Backend& backend, const Lanes& split, LaneSlice lanes, const BatchWords* words)
    : lanes_(lanes), words_(words) {
  const RowLayout layout(split, lanes.count, words == nullptr ? 0 : words->max_count());
  HostTable table(split.windows(), layout.elements);
  for (int index = 0; index < split.windows(); ++index) {
    const Window window = split.window(index, lanes);
    steps_.push_back(window.num_steps);
    table.put(index, 0, window.inputs);
    table.put(index, layout.targets, window.targets);
    if (words == nullptr) continue;
    const WordPositions found = find_words(window, words->of(index));
    table.put(index, layout.positions, found.positions);
    table.put(index, layout.row_begin, found.row_begin);
  }
  table_ = table.upload(backend);
  row_ = backend.allocate(ElementType::i32, {layout.elements});
  tensors_.inputs = row_.view({layout.capacity});
  tensors_.targets = row_.view(layout.targets, {layout.capacity});
  if (words == nullptr) return;
  tensors_.positions = row_.view(layout.positions, {layout.capacity});
  tensors_.row_begin = row_.view(layout.row_begin, {layout.starts});
}

void Batch::select(int window) {
  require(0 <= window && window < std::ssize(steps_), "0 <= window < windows of the split");
  num_steps_ = steps_[static_cast<std::size_t>(window)];
}

void Batch::load(Backend& backend) const {
  backend.load_window({.table = table_, .to = row_});
  if (words_ != nullptr) words_->load(backend);
}

Windows::Windows(Backend& backend, const Lanes& split, std::span<const LaneSlice> groups, Use use)
    : backend_(backend) {
  const BatchWords* words = nullptr;
  if (use == Use::training) words = &words_.emplace(backend, split);
  for (const LaneSlice& lanes : groups) batches_.emplace_back(backend, split, lanes, words);
}

void Windows::begin(const StepState& step) {
  backend_.set_step(step);
  if (words_) words_->select(step.window);
  for (Batch& batch : batches_) batch.select(step.window);
}

std::int64_t batch_words_bytes(const Lanes& split, std::int64_t max_words) {
  return table_bytes(split, max_words + 1);
}

std::int64_t batch_bytes(const Lanes& split, std::int64_t lanes, std::int64_t max_words) {
  return table_bytes(split, RowLayout(split, lanes, max_words).elements);
}

}  // namespace ptb
