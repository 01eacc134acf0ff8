// XXH3-128, which finds damage, not malice: whoever changes a file may give it a right digest.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>

namespace ptb {

inline constexpr std::size_t kDigestDigits = 32;

// Of the pieces as if they were one: lower-case hexadecimal digits, the high half first.
std::string digest_of(std::initializer_list<std::span<const std::byte>> pieces);

}  // namespace ptb
