// XXH3-128. It finds damage, but no malice: who changes a file on purpose can also mend its digest.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>

namespace ptb {

inline constexpr std::size_t kDigestDigits = 32;

// The digest of the pieces one after the other: lower-case hexadecimal digits, high half first.
std::string digest_of(std::initializer_list<std::span<const std::byte>> pieces);

}  // namespace ptb
