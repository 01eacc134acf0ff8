// Makes system calls of this test program fail: a full or broken disk, or a kill, at any call.
// These functions replace those of the C library in everything that is linked.
#pragma once

#include <array>
#include <vector>

namespace ptb::test {

enum class Call { open, write, fsync, close, rename, unlink, flock };
inline constexpr std::array kCalls = {Call::open,   Call::write,  Call::fsync, Call::close,
                                      Call::rename, Call::unlink, Call::flock};

// What happens instead of the call.
inline constexpr int kShort = -1;  // write alone: half of the bytes are written
inline constexpr int kKill = -2;   // SIGKILL

// While it lives, all such calls of this process are recorded, and one of them fails, or that one
// and all later ones of its kind. Only one may live at a time.
class SystemCalls {
 public:
  SystemCalls();
  // `error`: an errno value, or one of the above. `number` counts calls of this kind from 1.
  SystemCalls(Call call, int error, int number = 1, bool lasts = false);
  ~SystemCalls();
  SystemCalls(const SystemCalls&) = delete;
  SystemCalls& operator=(const SystemCalls&) = delete;

  // In order.
  const std::vector<Call>& seen() const;
  int count(Call call) const;
  bool has_failed() const;  // whether so many calls were made
};

}  // namespace ptb::test
