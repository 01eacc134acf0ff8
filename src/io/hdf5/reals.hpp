// Floats of 32 or 64 bits as bytes, at any address.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "io/files/subject.hpp"
#include "ptb_dist/backend/tensor.hpp"

namespace ptb {

// The same values as another type; a double beyond the range of floats becomes infinite.
std::vector<std::byte> converted(std::span<const std::byte> values, ElementType from,
                                 ElementType to);

// The subject's error names the place, in `shape`, of the first value that is not finite.
void check_is_finite(std::span<const std::byte> values, ElementType real, const Shape& shape,
                     const Subject& subject);

}  // namespace ptb
