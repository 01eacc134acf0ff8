// A typed, shaped view of memory that a backend owns.
//
// Copying a Tensor copies the view; the storage lives as long as any view of it. On a GPU the
// address belongs to the device: only a backend may follow it. Tensors are contiguous and
// row-major, and they carry their element type, so that no template runs through the layers above.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <tuple>

#include "ptb_dist/base/error.hpp"

namespace ptb {

enum class ElementType { f32, f64, i32, u8 };

constexpr std::size_t size_of(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return 4;
    case ElementType::f64:
      return 8;
    case ElementType::i32:
      return 4;
    case ElementType::u8:
      return 1;
  }
  return 0;
}

// The ElementType of a C++ type: element_type<float> == ElementType::f32.
template <class T>
inline constexpr ElementType element_type = [] {
  static_assert(sizeof(T) == 0, "no ElementType for this type");
  return ElementType::u8;
}();
template <>
inline constexpr ElementType element_type<float> = ElementType::f32;
template <>
inline constexpr ElementType element_type<double> = ElementType::f64;
template <>
inline constexpr ElementType element_type<std::int32_t> = ElementType::i32;
template <>
inline constexpr ElementType element_type<std::uint8_t> = ElementType::u8;

// Up to four extents; () is a scalar. An extent may be 0.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t elements() const;
  // The shape of one entry of the first axis. rank() > 0.
  Shape tail() const;
  // The same shape with another first extent. rank() > 0.
  Shape with_first(std::int64_t extent) const;
  std::string text() const;  // "[20,200]"

  static auto members(auto& self) {  // for base/archive.hpp
    auto& [extents, rank] = self;
    return std::tie(extents, rank);
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 4> extents_{};
  int rank_ = 0;
};

class Tensor {
 public:
  // No storage, no elements; stands for "not given".
  Tensor() = default;
  // `data` points to shape.elements() elements of `type`.
  Tensor(std::shared_ptr<std::byte> data, ElementType type, Shape shape);

  ElementType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t elements() const { return elements_; }
  std::size_t bytes() const { return static_cast<std::size_t>(elements_) * size_of(type_); }
  bool empty() const { return elements_ == 0; }
  void* raw() const { return data_.get(); }

  // Address of the first element. The type must be the tensor's (70).
  template <class T>
  T* data() const {
    require(type_ == element_type<T>, "a tensor is read as the type that it has");
    return reinterpret_cast<T*>(data_.get());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(elements_)};
  }

  // Entry `index` of the first axis, as a tensor of one axis less.
  Tensor operator[](std::int64_t index) const;
  // Entries first .. first + count - 1 of the first axis.
  Tensor slice(std::int64_t first, std::int64_t count) const;
  // The leading part of the storage as another shape with no more elements.
  Tensor view(Shape shape) const;
  // `shape` from element `offset` on.
  Tensor view(std::int64_t offset, Shape shape) const;

 private:
  std::shared_ptr<std::byte> data_;
  ElementType type_ = ElementType::u8;
  Shape shape_{0};
  std::int64_t elements_ = 0;
};

}  // namespace ptb
