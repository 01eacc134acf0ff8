// Moves numbers between plain vectors of double and a backend's tensors, whatever its Real type.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

template <class T>
void upload_as(Backend& backend, const Tensor& to, std::span<const double> from) {
  std::vector<T> converted;
  converted.reserve(from.size());
  for (const double value : from) converted.push_back(static_cast<T>(value));
  backend.upload(to, std::as_bytes(std::span<const T>(converted)));
}

template <class T>
std::vector<double> download_as(Backend& backend, const Tensor& from) {
  std::vector<T> values(static_cast<std::size_t>(from.elements()));
  backend.download(from, std::as_writable_bytes(std::span<T>(values)));
  return {values.begin(), values.end()};
}

// Of any element type; `from` has as many values as the tensor has elements.
inline void upload_values(Backend& backend, const Tensor& to, std::span<const double> from) {
  switch (to.type()) {
    case ElementType::f32:
      return upload_as<float>(backend, to, from);
    case ElementType::f64:
      return upload_as<double>(backend, to, from);
    case ElementType::i32:
      return upload_as<std::int32_t>(backend, to, from);
    case ElementType::u8:
      return upload_as<std::uint8_t>(backend, to, from);
  }
}

inline std::vector<double> values_of(Backend& backend, const Tensor& from) {
  switch (from.type()) {
    case ElementType::f32:
      return download_as<float>(backend, from);
    case ElementType::f64:
      return download_as<double>(backend, from);
    case ElementType::i32:
      return download_as<std::int32_t>(backend, from);
    case ElementType::u8:
      return download_as<std::uint8_t>(backend, from);
  }
  return {};
}

// The single value of a tensor of one f64.
inline double download_scalar(Backend& backend, const Tensor& from) {
  double value = 0;
  backend.download(from, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

inline std::vector<std::byte> bytes_of(Backend& backend, const Tensor& from) {
  std::vector<std::byte> bytes(from.bytes());
  backend.download(from, bytes);
  return bytes;
}

inline Tensor make_tensor(Backend& backend, ElementType type, Shape shape,
                          std::span<const double> values) {
  const Tensor tensor = backend.allocate(type, shape);
  upload_values(backend, tensor, values);
  return tensor;
}

}  // namespace ptb
