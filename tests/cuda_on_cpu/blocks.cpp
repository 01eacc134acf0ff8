// A block's threads are run by workers, which are fibers. A worker runs one thread after another
// for as long as they run through; a thread that has to wait keeps its worker, and another goes on.
// Whoever stops looks for the next one and switches to it directly.
#include "cuda_on_cpu/blocks.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include "cuda_on_cpu/race.hpp"
#include "cuda_on_cpu/sanitizer.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/traffic.hpp"

namespace ptb::cuda_on_cpu {

Place place;
Runner runner;

namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;
// Stacks begin at pages, and caches choose a place by an address within a page: if all began at the
// same one, those of a few threads would evict each other.
constexpr std::size_t kStagger = 64 * 5, kStaggered = 4096;
constexpr std::size_t kSharedGap = 64;  // an index beyond an array must not hit the next one
constexpr int kLanes = 32;

// Also of the caller of run(), who has no thread: he comes back when the block is done.
struct Worker {
  boost::context::fiber fiber{};  // where it stopped
  FiberStack stack{};
  int thread = -1;  // that it runs, or -1
};

enum class State : std::uint8_t { fresh, ready, at_barrier, at_exchange, done };

struct Thread {
  State state = State::fresh;
  Worker* worker = nullptr;
  uint3 index{};
  Line line{};                 // where it waits
  std::uint64_t received = 0;  // by an exchange
};

struct Warp {
  int arrived = 0;
  Line line{};
  std::array<std::uint64_t, kLanes> values{};
  std::array<int, kLanes> lane_masks{};
};

// How the threads of one block take turns.
enum class Turns {
  in_order,      // all to their first wait, in order, and so on
  warp_at_once,  // whoever may go on goes on first: one warp runs far ahead of the others
  random,
};

std::string text_of(const Line& line) {
  const std::string path = line.file == nullptr ? "?" : line.file;
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(line.number);
}

class Block {
 public:
  void run(GridCall& call, Dice& dice);
  void barrier(Line line);
  std::uint64_t exchange(unsigned mask, std::uint64_t value, int lane_mask, Line line);

 private:
  void begin(const GridCall& call);
  void draw_turns();
  bool goes_on_first() const;
  Worker& next();
  Worker& next_ready();
  Worker& idle_worker();
  void release_barrier();
  [[noreturn]] void fail_stuck();
  void work(Worker& me);  // the body of a fiber
  void switch_to(Worker& worker);
  void arrive(Worker& me, boost::context::fiber&& from);
  void park(State state, Line line);
  void set_place(int thread);

  GridCall* call_ = nullptr;
  Dice* dice_ = nullptr;
  std::vector<void*> arguments_;
  Turns turns_ = Turns::in_order;
  int count_ = 0, done_ = 0, at_barrier_ = 0;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<int> order_;  // in which fresh threads start
  std::size_t next_ = 0;    // in order_
  std::vector<int> ready_;  // from first_ready_
  std::size_t first_ready_ = 0;

  Worker caller_;
  Worker* current_ = &caller_;
  Worker* previous_ = nullptr;  // who has switched to the current one
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
};

// Never destroyed: that would unwind the fibers, and kernels must not be unwound.
Block& block() {
  static Block& instance = *new Block;
  return instance;
}

std::uint64_t grids_run = 0;

// --- turns -----------------------------------------------------------------------------------

void Block::begin(const GridCall& call) {
  count_ = static_cast<int>(call.block.x * call.block.y * call.block.z);
  done_ = at_barrier_ = 0;
  runner.epoch = 0;
  threads_.assign(static_cast<std::size_t>(count_), {});
  warps_.assign(static_cast<std::size_t>((count_ + kLanes - 1) / kLanes), {});
  ready_.clear();
  first_ready_ = next_ = 0;
  std::memset(shared_memory(), 0xff, reserve_shared(0));  // NaN: nothing is left of other blocks
  forget_shared();
  draw_turns();
}

void Block::draw_turns() {
  order_.resize(static_cast<std::size_t>(count_));
  std::iota(order_.begin(), order_.end(), 0);
  constexpr std::array kTurns = {Turns::in_order, Turns::warp_at_once, Turns::random};
  turns_ = kTurns[dice_->below(kTurns.size())];
  if (turns_ == Turns::in_order) return;
  const std::size_t unit = turns_ == Turns::random ? 1 : kLanes;
  const std::size_t units = (order_.size() + unit - 1) / unit;
  std::vector<std::size_t> shuffled(units);
  std::iota(shuffled.begin(), shuffled.end(), std::size_t{0});
  for (std::size_t k = units; k > 1; --k) std::swap(shuffled[k - 1], shuffled[dice_->below(k)]);
  auto out = order_.begin();
  for (const std::size_t u : shuffled) {
    for (std::size_t t = u * unit; t < std::min((u + 1) * unit, order_.size()); ++t) {
      *out++ = static_cast<int>(t);
    }
  }
}

// Of a thread that may go on and one that has not begun.
bool Block::goes_on_first() const {
  if (next_ == order_.size()) return true;
  return turns_ == Turns::warp_at_once || (turns_ == Turns::random && dice_->below(4) != 0);
}

void Block::run(GridCall& call, Dice& dice) {
  call_ = &call;
  dice_ = &dice;
  arguments_.clear();
  for (auto& argument : call.arguments) arguments_.push_back(argument.data());
  begin(call);
  runner.is_kernel = true;
  switch_to(next());
  runner.is_kernel = false;
}

// Whose turn it is; the caller's when the block is done.
Worker& Block::next() {
  while (done_ < count_) {
    if (first_ready_ < ready_.size() && goes_on_first()) return next_ready();
    if (next_ < order_.size()) return idle_worker();
    if (at_barrier_ + done_ < count_) fail_stuck();
    release_barrier();
  }
  return caller_;
}

Worker& Block::next_ready() {
  int thread = 0;
  if (turns_ == Turns::in_order) {
    thread = ready_[first_ready_++];
  } else {
    const std::size_t at =
        turns_ == Turns::random ? dice_->below(ready_.size()) : ready_.size() - 1;
    thread = ready_[at];
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return *threads_[static_cast<std::size_t>(thread)].worker;
}

Worker& Block::idle_worker() {
  if (idle_.empty()) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& worker = *workers_.back();
    boost::context::protected_fixedsize_stack allocator(kStackBytes);
    const boost::context::stack_context memory = allocator.allocate();
    worker.stack = {static_cast<char*>(memory.sp) - memory.size, memory.size, nullptr};
    const std::size_t unused = workers_.size() * kStagger % kStaggered;
    worker.fiber =
        boost::context::fiber(std::allocator_arg,
                              boost::context::preallocated(static_cast<char*>(memory.sp) - unused,
                                                           memory.size - unused, memory),
                              allocator, [this, &worker](boost::context::fiber&& from) {
                                arrive(worker, std::move(from));
                                work(worker);
                                return boost::context::fiber{};
                              });
    idle_.push_back(&worker);
  }
  Worker& worker = *idle_.back();
  idle_.pop_back();
  return worker;
}

void Block::release_barrier() {
  const Line* first = nullptr;
  for (int t = 0; t < count_; ++t) {
    Thread& thread = threads_[static_cast<std::size_t>(order_[static_cast<std::size_t>(t)])];
    if (thread.state != State::at_barrier) continue;
    if (first == nullptr) first = &thread.line;
    if (!(*first == thread.line)) {
      fail("threads of a block wait at different barriers: " + text_of(*first) + " and " +
           text_of(thread.line) + ", launched at " + call_->kernel.launched_at);
    }
    if (done_ > 0) {
      fail("threads have ended that the barrier at " + text_of(*first) +
           " waits for, launched at " + call_->kernel.launched_at);
    }
    thread.state = State::ready;
    ready_.push_back(order_[static_cast<std::size_t>(t)]);
  }
  at_barrier_ = 0;
  ++runner.epoch;
}

void Block::fail_stuck() {
  for (const Thread& thread : threads_) {
    if (thread.state != State::at_exchange) continue;
    fail("lanes of a warp do not come to the exchange at " + text_of(thread.line) +
         ", launched at " + call_->kernel.launched_at);
  }
  fail("a block is stuck, launched at " + call_->kernel.launched_at);
}

// --- fibers ----------------------------------------------------------------------------------

void Block::work(Worker& me) {
  for (;;) {
    while (next_ < order_.size()) {
      const int t = order_[next_++];
      Thread& thread = threads_[static_cast<std::size_t>(t)];
      thread.worker = &me;
      const auto number = static_cast<unsigned>(t);
      const dim3& extent = place.block_extent;
      thread.index = {number % extent.x, number / extent.x % extent.y,
                      number / (extent.x * extent.y)};
      me.thread = t;
      set_place(t);
      call_->kernel.invoke(call_->function, arguments_.data());
      thread.state = State::done;
      ++done_;
      if (first_ready_ < ready_.size()) break;  // next() says whose turn it is now
    }
    me.thread = -1;
    idle_.push_back(&me);
    switch_to(next());
  }
}

// Returns when somebody has switched back.
void Block::switch_to(Worker& worker) {
  Worker& me = *current_;
  if (&worker != &me) {
    previous_ = &me;
    current_ = &worker;
    start_switch(me.stack, worker.stack);
    arrive(me, std::move(worker.fiber).resume());
  }
  if (me.thread >= 0) set_place(me.thread);
}

void Block::arrive(Worker& me, boost::context::fiber&& from) {
  finish_switch(me.stack, previous_->stack);
  previous_->fiber = std::move(from);
}

void Block::park(State state, Line line) {
  Thread& thread = threads_[static_cast<std::size_t>(current_->thread)];
  thread.state = state;
  thread.line = line;
  switch_to(next());
}

void Block::set_place(int thread) {
  place.thread = threads_[static_cast<std::size_t>(thread)].index;
  runner.thread = static_cast<std::uint16_t>(thread);
}

// --- what threads wait for -------------------------------------------------------------------

void Block::barrier(Line line) {
  ++at_barrier_;
  park(State::at_barrier, line);
}

std::uint64_t Block::exchange(unsigned mask, std::uint64_t value, int lane_mask, Line line) {
  if (mask != 0xffffffffu) fail("only exchanges of whole warps are emulated: " + text_of(line));
  const auto thread = static_cast<std::size_t>(current_->thread);
  const std::size_t lane = thread % kLanes;
  Warp& warp = warps_[thread / kLanes];
  if (warp.arrived > 0 && !(warp.line == line)) {
    fail("lanes of a warp meet in different exchanges: " + text_of(warp.line) + " and " +
         text_of(line));
  }
  warp.line = line;
  warp.values[lane] = value;
  warp.lane_masks[lane] = lane_mask;
  if (++warp.arrived < kLanes) {
    park(State::at_exchange, line);
    return threads_[thread].received;
  }
  warp.arrived = 0;
  for (std::size_t k = 0; k < kLanes; ++k) {
    const std::size_t t = thread - lane + k;
    threads_[t].received = warp.values[k ^ static_cast<std::size_t>(warp.lane_masks[k])];
    if (k == lane) continue;
    threads_[t].state = State::ready;
    ready_.push_back(static_cast<int>(t));
  }
  return threads_[thread].received;
}

std::map<const void*, Kernel>& kernels() {
  static std::map<const void*, Kernel> instance;
  return instance;
}

}  // namespace

void barrier(Line line) { block().barrier(line); }

std::uint64_t exchange(unsigned mask, std::uint64_t value, int lane_mask, Line line) {
  return block().exchange(mask, value, lane_mask, line);
}

unsigned char* shared_memory() {
  static auto* const memory =
      static_cast<unsigned char*>(mmap(nullptr, kSharedBytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

// 0 bytes: how many are in use.
std::size_t reserve_shared(std::size_t bytes) {
  static std::size_t used = 0;
  const std::size_t offset = used;
  if (bytes > 0) used += (bytes + kSharedGap - 1) / kSharedGap * kSharedGap + kSharedGap;
  if (used > kSharedBytes) fail("the kernels' shared arrays are too large for the emulation");
  return offset;
}

void introduce(const void* kernel, Invoke invoke, std::span<const std::size_t> sizes,
               const std::source_location& where) {
  Kernel& entry = kernels()[kernel];
  entry.invoke = invoke;
  entry.sizes.assign(sizes.begin(), sizes.end());
  entry.launched_at = text_of({where.file_name(), static_cast<int>(where.line())});
}

const Kernel* find_kernel(const void* function) {
  const auto found = kernels().find(function);
  return found == kernels().end() ? nullptr : &found->second;
}

void run_grid(GridCall& call) {
  ++counters().kernels;
  count_launch(call.kernel.launched_at);
  Dice dice(++grids_run);
  place.block_extent = call.block;
  const std::size_t blocks = std::size_t{call.grid.x} * call.grid.y * call.grid.z;
  // A stride without a common divisor visits every block once.
  std::size_t stride = dice.below(blocks) + 1;
  while (std::gcd(stride, blocks) != 1) ++stride;
  const std::size_t first = dice.below(blocks);
  for (std::size_t k = 0; k < blocks; ++k) {
    const std::size_t b = (first + k * stride) % blocks;
    runner.block = static_cast<std::uint32_t>(b);
    count_block();
    place.block = {static_cast<unsigned>(b % call.grid.x),
                   static_cast<unsigned>(b / call.grid.x % call.grid.y),
                   static_cast<unsigned>(b / (std::size_t{call.grid.x} * call.grid.y))};
    block().run(call, dice);
  }
}

}  // namespace ptb::cuda_on_cpu
