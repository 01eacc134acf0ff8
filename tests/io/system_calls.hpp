// The system calls of this test program, which can be made to fail: a disk that is full or broken,
// and a kill, at any one of them. They stand before those of the C library, for all that is linked.
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

// From its making to its end, all such calls of this process are noted, and one fails, or that one
// and all later ones of its kind. There is one at a time.
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
