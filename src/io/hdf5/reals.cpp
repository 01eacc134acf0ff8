#include "io/hdf5/reals.hpp"

#include <fmt/format.h>

#include <fmt/ranges.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace ptb {
namespace {

// In a file a value may begin at any address.
template <class Real>
Real element(std::span<const std::byte> values, std::size_t index) {
  Real value{};
  std::memcpy(&value, values.data() + index * sizeof(Real), sizeof(Real));
  return value;
}

template <class From, class To>
std::vector<std::byte> converted_as(std::span<const std::byte> values) {
  const std::size_t count = values.size() / sizeof(From);
  std::vector<std::byte> result(count * sizeof(To));
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<To>(element<From>(values, i));
    std::memcpy(result.data() + i * sizeof(To), &value, sizeof(To));
  }
  return result;
}

std::vector<std::int64_t> place_in(const Shape& shape, std::size_t index) {
  std::vector<std::int64_t> place(static_cast<std::size_t>(shape.rank()));
  auto rest = static_cast<std::int64_t>(index);
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    place[static_cast<std::size_t>(axis)] = rest % shape[axis];
    rest /= shape[axis];
  }
  return place;
}

template <class Real>
void check_as(std::span<const std::byte> values, const Shape& shape, const Subject& subject) {
  for (std::size_t i = 0; i < values.size() / sizeof(Real); ++i) {
    const Real value = element<Real>(values, i);
    if (std::isfinite(value)) continue;
    throw subject.error(fmt::format("the value at [{}] is {} as a {}-bit float",
                                    fmt::join(place_in(shape, i), ","), value, 8 * sizeof(Real)));
  }
}

}  // namespace

std::vector<std::byte> converted(std::span<const std::byte> values, ElementType from,
                                 ElementType to) {
  const bool is_wide = from == ElementType::f64, gets_wide = to == ElementType::f64;
  if (is_wide == gets_wide) return {values.begin(), values.end()};
  return is_wide ? converted_as<double, float>(values) : converted_as<float, double>(values);
}

void check_is_finite(std::span<const std::byte> values, ElementType real, const Shape& shape,
                     const Subject& subject) {
  if (real == ElementType::f64) {
    check_as<double>(values, shape, subject);
  } else {
    check_as<float>(values, shape, subject);
  }
}

}  // namespace ptb
