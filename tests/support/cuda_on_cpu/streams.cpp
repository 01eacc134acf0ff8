#include "support/cuda_on_cpu/streams.hpp"

#include <algorithm>

#include "support/cuda_on_cpu/memory.hpp"
#include "support/cuda_on_cpu/settings.hpp"

namespace ptb::cuda_on_cpu {
namespace {

std::vector<std::uint32_t> last_number;  // by lane
std::uint64_t draws = 0;
std::uint64_t operations = 0;

// One step of the first operation of a stream; false if there is none that can move.
bool serve(CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  Operation& operation = stream.queue.front();
  current_operation() = &operation;
  const Progress progress = operation.step();
  current_operation() = nullptr;
  if (progress == Progress::finished) stream.queue.pop_front();
  return progress != Progress::waiting;
}

bool serve_any(const std::vector<cudaStream_t>& order) {
  return std::ranges::any_of(order, [](cudaStream_t stream) { return serve(*stream); });
}

std::vector<cudaStream_t> shuffled_streams(Dice& dice) {
  std::vector<cudaStream_t> order(streams().begin(), streams().end());
  std::ranges::sort(order, {}, &CUstream_st::lane);  // addresses differ from run to run
  for (std::size_t k = order.size(); k > 1; --k) std::swap(order[k - 1], order[dice.below(k)]);
  return order;
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

const Operation*& current_operation() {
  static const Operation* operation = nullptr;
  return operation;
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
  if (service() == Service::eager) serve_until([stream] { return stream->queue.empty(); });
  if (service() == Service::uniform) {  // the device works while the host does
    for (std::size_t turns = Dice(++draws).below(4); turns > 0; --turns) serve_once();
  }
}

std::uint64_t enqueued() { return operations; }

void serve_until(const std::function<bool()>& is_over) {
  if (is_over()) return;
  const DeviceAccess access;
  Dice dice(++draws);
  std::vector<cudaStream_t> order = shuffled_streams(dice);
  while (!is_over()) {
    if (service() == Service::uniform) order = shuffled_streams(dice);
    if (!serve_any(order)) fail("every stream waits for an event that nothing will record");
  }
}

void serve_once() {
  const DeviceAccess access;
  Dice dice(++draws);
  serve_any(shuffled_streams(dice));
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
