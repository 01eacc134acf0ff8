#include "ptb_dist/base/console.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/file.hpp"
#include "ptb_dist/base/stop.hpp"

namespace ptb::console {
namespace {

constexpr std::size_t kMostWaiting = std::size_t{1} << 20;
// The size of a write to a descriptor that may block: any pipe or terminal with room takes this.
constexpr std::size_t kPiece = 512;

// One of the two descriptors. Making it non-blocking would also make the terminal or pipe
// non-blocking for the shell and other programs; so terminals and pipes are opened a second time.
class Outlet {
 public:
  explicit Outlet(int descriptor) : descriptor_(descriptor) {}

  bool is_idle() const { return waiting_.empty(); }

  void add(std::string_view text) {
    if (waiting_.size() + text.size() > kMostWaiting) {
      ++left_out_;
      return;
    }
    waiting_ += text;
  }

  void add_result(std::string_view text) {
    waiting_ += text;
    has_result_ = true;
  }
  bool has_result() const { return has_result_ && !is_idle(); }

  // Writes as much as is taken at once. Returns the errno value of a failure; then nothing waits.
  int offer() {
    if (is_idle()) return 0;
    open();
    while (!is_idle()) {
      const ssize_t taken = write_some();
      if (taken < 0 && errno == EINTR) continue;
      if (taken < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
      if (taken < 0) {  // nobody will read it
        const int failure = errno;
        waiting_.clear();
        has_result_ = false;
        left_out_ = 0;
        return failure;
      }
      waiting_.erase(0, static_cast<std::size_t>(taken));
      if (is_idle() && left_out_ > 0) {
        waiting_ = fmt::format(
            "ptb_dist: warning: {} lines are missing here, because nobody read them; log.txt has "
            "them\n",
            std::exchange(left_out_, 0));
      }
    }
    has_result_ = false;
    return 0;
  }

  // Waits until there may be room, or until `patience` is over.
  void wait_for_room(int milliseconds) const {
    pollfd wanted{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    ::poll(&wanted, 1, milliseconds);
  }

 private:
  enum class Kind { plain, socket, reopened, may_block };

  // The descriptor may refer to another file than at the last call.
  void open() {
    struct stat now = {};
    if (::fstat(descriptor_, &now) != 0) return;
    const std::pair identity(now.st_dev, now.st_ino);
    if (identity == identity_) return;
    identity_ = identity;
    reopened_.reset();
    kind_ = Kind::plain;
    if (S_ISREG(now.st_mode)) return;
    if (S_ISSOCK(now.st_mode)) {
      kind_ = Kind::socket;
      return;
    }
    const std::string path = fmt::format("/proc/self/fd/{}", descriptor_);
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    reopened_.emplace(::open(path.c_str(), flags));
    kind_ = reopened_->is_open() ? Kind::reopened : Kind::may_block;  // another user's terminal
  }

  // As write(2).
  ssize_t write_some() const {
    switch (kind_) {
      case Kind::plain:
        break;
      case Kind::socket:
        return ::send(descriptor_, waiting_.data(), waiting_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      case Kind::reopened:
        return ::write(reopened_->get(), waiting_.data(), waiting_.size());
      case Kind::may_block: {
        pollfd wanted{.fd = descriptor_, .events = POLLOUT, .revents = 0};
        if (::poll(&wanted, 1, 0) == 0) {
          errno = EAGAIN;
          return -1;
        }
        return ::write(descriptor_, waiting_.data(), std::min(waiting_.size(), kPiece));
      }
    }
    return ::write(descriptor_, waiting_.data(), waiting_.size());
  }

  int descriptor_;
  Kind kind_ = Kind::plain;
  std::pair<dev_t, ino_t> identity_{};
  std::optional<FileDescriptor> reopened_{};
  std::string waiting_{};
  bool has_result_ = false;
  std::size_t left_out_ = 0;
};

// Never destroyed: text may come until the end of the process.
struct Console {
  std::mutex mutex{};  // held for a short time only: no write waits
  std::array<Outlet, 2> outlets{Outlet(STDOUT_FILENO), Outlet(STDERR_FILENO)};

  Outlet& of(Stream stream) { return outlets[stream == Stream::out ? 0 : 1]; }
};

Console& console() {
  static Console& console = *new Console;
  return console;
}

// Waits until all outlets are idle, for at most `patience`; longer while is_awaited(outlet) is true
// for one that is not idle.
template <class IsAwaited>
void wait_for_readers(std::chrono::milliseconds patience, IsAwaited is_awaited) noexcept {
  constexpr int kGlance = 10;  // milliseconds
  const AwakeClock::time_point end = AwakeClock::now() + patience;
  for (;;) {
    const Outlet* waiting = nullptr;
    bool is_over = AwakeClock::now() > end;
    {
      const std::lock_guard lock(console().mutex);
      for (Outlet& outlet : console().outlets) {
        outlet.offer();
        if (outlet.is_idle()) continue;
        waiting = &outlet;
        is_over = is_over && !is_awaited(outlet);
      }
    }
    if (waiting == nullptr || is_over) return;
    waiting->wait_for_room(kGlance);
  }
}

}  // namespace

void fill_gaps() noexcept {
  int descriptor = 0;
  do {
    descriptor = ::open("/dev/null", O_RDWR);
  } while (descriptor >= 0 && descriptor <= STDERR_FILENO);
  if (descriptor > STDERR_FILENO) ::close(descriptor);
}

void write(Stream stream, std::string_view text) noexcept {
  const std::lock_guard lock(console().mutex);
  for (Outlet& outlet : console().outlets) outlet.offer();
  console().of(stream).add(text);
  console().of(stream).offer();
}

bool write_if_idle(Stream stream, std::string_view text) noexcept {
  const std::lock_guard lock(console().mutex);
  for (Outlet& outlet : console().outlets) outlet.offer();
  Outlet& outlet = console().of(stream);
  if (!outlet.is_idle()) return false;
  outlet.add(text);
  outlet.offer();
  return true;
}

int print(std::string_view text) noexcept {
  const std::lock_guard lock(console().mutex);
  Outlet& outlet = console().of(Stream::out);
  outlet.add_result(text);
  const int failure = outlet.offer();
  return failure == EPIPE ? 0 : failure;
}

void flush(std::chrono::milliseconds patience) noexcept {
  wait_for_readers(patience, [](const Outlet&) { return false; });
}

void finish(std::chrono::milliseconds patience) noexcept {
  wait_for_readers(
      patience, [](const Outlet& outlet) { return outlet.has_result() && !is_stop_requested(); });
}

}  // namespace ptb::console
