#include "cuda_on_cpu/streams.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cuda_on_cpu/memory.hpp"
#include "cuda_on_cpu/settings.hpp"

namespace ptb::cuda_on_cpu {
namespace {

std::vector<std::uint32_t> last_number;  // by lane
std::uint64_t draws = 0;
std::uint64_t operations = 0;

std::string trace_text(const Operation& operation) {
  return std::string(operation.what) + " " + operation.where;
}

// One step of the first operation of a stream, which waits if there is none.
Progress serve(CUstream_st& stream) {
  if (stream.queue.empty()) return Progress::waiting;
  Operation& operation = stream.queue.front();
  if (!std::exchange(operation.has_begun, true)) trace("begin " + trace_text(operation));
  current_operation() = &operation;
  const Progress progress = operation.step();
  current_operation() = nullptr;
  if (progress == Progress::finished) {
    trace("end " + trace_text(operation));
    stream.queue.pop_front();
  }
  return progress;
}

// One step of the first stream that can move. Otherwise what they wait for, elsewhere if any does.
Progress serve_any(const std::vector<cudaStream_t>& order) {
  Progress all = Progress::waiting;
  for (const cudaStream_t stream : order) {
    const Progress progress = serve(*stream);
    if (progress == Progress::elsewhere) all = progress;
    if (progress == Progress::finished || progress == Progress::advanced) return progress;
  }
  return all;
}

std::vector<cudaStream_t> shuffled_streams(Dice& dice) {
  std::vector<cudaStream_t> order(streams().begin(), streams().end());
  std::ranges::sort(order, {}, &CUstream_st::lane);  // addresses differ from run to run
  for (std::size_t k = order.size(); k > 1; --k) std::swap(order[k - 1], order[dice.below(k)]);
  return order;
}

// Until `is_over`, which is the result, or no stream can move before another process does.
bool serve_while_possible(const std::function<bool()>& is_over) {
  if (is_over()) return true;
  const DeviceAccess access;
  Dice dice(++draws);
  std::vector<cudaStream_t> order = shuffled_streams(dice);
  while (!is_over()) {
    if (service() == Service::uniform) order = shuffled_streams(dice);
    const Progress progress = serve_any(order);
    if (progress == Progress::elsewhere) return false;
    if (progress == Progress::waiting) {
      fail("every stream waits for an event that nothing will record");
    }
  }
  return true;
}

}  // namespace

void join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (std::size_t lane = 0; lane < other.size(); ++lane) {
    clock[lane] = std::max(clock[lane], other[lane]);
  }
}

std::uint32_t new_lane() {
  last_number.push_back(0);
  return static_cast<std::uint32_t>(last_number.size() - 1);
}

void stamp(Operation& operation, std::uint32_t lane, Clock& clock) {
  if (clock.size() <= lane) clock.resize(lane + 1);
  clock[lane] = ++last_number[lane];
  operation.lane = lane;
  operation.number = clock[lane];
  operation.clock = clock;
}

// Never destroyed: handles may be freed after the statics of this file.
std::set<cudaStream_t>& streams() {
  static auto& instance = *new std::set<cudaStream_t>;
  return instance;
}

Clock& host_clock() {
  static auto& instance = *new Clock;
  return instance;
}

void enqueue(cudaStream_t stream, Operation operation) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) {
    fail("work on the default stream");
  }
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    operation.lane = stream->lane;
    capture.nodes.push_back(
        {std::move(operation), {stream->frontier.begin(), stream->frontier.end()}});
    stream->frontier = {capture.nodes.size() - 1};
    return;
  }
  ++operations;
  join(stream->clock, host_clock());
  stamp(operation, stream->lane, stream->clock);
  stream->queue.push_back(std::move(operation));
  if (service() == Service::eager) {
    serve_while_possible([stream] { return stream->queue.empty(); });
  }
  if (service() == Service::uniform) {  // the device works while the host does
    for (std::size_t turns = Dice(++draws).below(4); turns > 0; --turns) serve_once();
  }
}

std::uint64_t enqueued() { return operations; }

void serve_until(const std::function<bool()>& is_over) {
  while (!serve_while_possible(is_over)) usleep(20);
}

void serve_once() {
  const DeviceAccess access;
  Dice dice(++draws);
  const std::vector<cudaStream_t> order = shuffled_streams(dice);
  // Each opening of device memory is dear where it is closed to the host.
  std::size_t turns = service() == Service::starving ? 1 + dice.below(32) : 1;
  while (turns-- > 0) serve_any(order);
}

void drain(cudaStream_t stream) {
  serve_until([stream] { return stream->queue.empty(); });
  join(host_clock(), stream->clock);
}

void drain_all() {
  for (const cudaStream_t stream : streams()) drain(stream);
}

bool breaks_capture() {
  bool is_any = false;
  for (const cudaStream_t stream : streams()) {
    if (stream->capture == nullptr) continue;
    stream->capture->is_broken = true;
    is_any = true;
  }
  return is_any;
}

}  // namespace ptb::cuda_on_cpu
