// No other file uses xxHash.
#include "io/files/digest.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <memory>
#include <new>

namespace ptb {

std::string digest_of(std::initializer_list<std::span<const std::byte>> pieces) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  if (state == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state.get());
  for (const std::span<const std::byte> piece : pieces) {
    // An empty span may have a null address, and for the library that is an error.
    if (!piece.empty()) XXH3_128bits_update(state.get(), piece.data(), piece.size());
  }
  const XXH128_hash_t digest = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

}  // namespace ptb
