#include "ptb_dist/backend/tensor.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace ptb {

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : rank_(static_cast<int>(extents.size())) {
  require(extents.size() <= extents_.size(), "a shape has at most four extents");
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

Shape Shape::tail() const {
  require(rank_ > 0, "a scalar has no first axis");
  Shape result;
  result.rank_ = rank_ - 1;
  std::copy(extents_.begin() + 1, extents_.end(), result.extents_.begin());
  return result;
}

Shape Shape::with_first(std::int64_t extent) const {
  require(rank_ > 0, "a scalar has no first axis");
  Shape result = *this;
  result.extents_[0] = extent;
  return result;
}

std::string Shape::text() const {
  std::string result = "[";
  for (int axis = 0; axis < rank_; ++axis) {
    result += fmt::format("{}{}", axis > 0 ? "," : "", (*this)[axis]);
  }
  return result + "]";
}

Tensor::Tensor(std::shared_ptr<std::byte> data, ElementType type, Shape shape)
    : data_(std::move(data)), type_(type), shape_(shape), elements_(shape.elements()) {}

Tensor Tensor::operator[](std::int64_t index) const {
  require(index >= 0 && index < shape_[0], "an index is within the first axis");
  const Shape entry = shape_.tail();
  return view(index * entry.elements(), entry);
}

Tensor Tensor::slice(std::int64_t first, std::int64_t count) const {
  require(first >= 0 && count >= 0 && first + count <= shape_[0],
          "a slice is within the first axis");
  return view(first * shape_.tail().elements(), shape_.with_first(count));
}

Tensor Tensor::view(Shape shape) const { return view(0, shape); }

Tensor Tensor::view(std::int64_t offset, Shape shape) const {
  require(offset >= 0 && offset + shape.elements() <= elements_, "a view is within its tensor");
  const std::size_t bytes = static_cast<std::size_t>(offset) * size_of(type_);
  return {std::shared_ptr<std::byte>(data_, data_.get() + bytes), type_, shape};
}

}  // namespace ptb
