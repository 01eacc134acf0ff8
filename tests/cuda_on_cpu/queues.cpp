// The CUDA runtime's functions for streams, events and graphs.
#include <algorithm>
#include <map>

#include "cuda_on_cpu/runtime.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/streams.hpp"

using namespace ptb::cuda_on_cpu;

// What cudaEventRecord put into a stream: a later record of the same event makes another mark.
struct Mark {
  bool is_over = false;
  bool is_waited_for = false;
  Clock clock{};
};

struct CUevent_st {
  std::shared_ptr<Mark> mark{};         // null until recorded
  std::weak_ptr<Capture> capture{};     // that it was recorded in
  std::vector<std::size_t> frontier{};  // nodes of that capture
};

struct CUgraph_st {
  std::vector<Node> nodes{};
};
struct CUgraphExec_st {
  std::vector<Node> nodes{};
};

namespace {

// A launch of a graph: its nodes run in any order that their arrows allow.
class Replay {
 public:
  Replay(std::vector<Node> nodes, std::uint64_t number)
      : nodes_(std::move(nodes)), is_done_(nodes_.size(), false), dice_(number) {}

  Progress step() {
    const std::size_t count = nodes_.size();
    const std::size_t first = count == 0 ? 0 : dice_.below(count);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t at = (first + k) % count;
      if (is_done_[at] || !is_ready(at)) continue;
      current_operation() = &nodes_[at].operation;
      nodes_[at].operation.step();
      is_done_[at] = true;
      ++done_;
      break;
    }
    return done_ == count ? Progress::finished : Progress::advanced;
  }

 private:
  bool is_ready(std::size_t at) const {
    return std::ranges::all_of(nodes_[at].after, [this](std::size_t k) { return is_done_[k]; });
  }

  std::vector<Node> nodes_;
  std::vector<bool> is_done_;
  std::size_t done_ = 0;
  Dice dice_;
};

// A wait of the host is over.
void note_drain() {
  const auto is_idle = [](cudaStream_t stream) { return stream->queue.empty(); };
  counters().drains += std::ranges::all_of(streams(), is_idle) ? 1 : 0;
}

// Whether the host has asked for this mark just before, and has given the device no work since.
bool is_asked_again(const std::shared_ptr<Mark>& mark) {
  static std::weak_ptr<Mark> last;
  static std::uint64_t work = 0;
  const bool is_again = last.lock() == mark && work == enqueued();
  last = mark;
  work = enqueued();
  return is_again;
}

// Nodes that no other comes after.
std::set<std::size_t> leaves(const std::vector<Node>& nodes) {
  std::set<std::size_t> result;
  for (std::size_t k = 0; k < nodes.size(); ++k) result.insert(k);
  for (const Node& node : nodes) {
    for (const std::size_t before : node.after) result.erase(before);
  }
  return result;
}

}  // namespace

extern "C" {

// --- streams ---------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (flags != cudaStreamNonBlocking) fail("a stream that waits for the default stream");
  *stream = new CUstream_st;
  (*stream)->lane = new_lane();
  streams().insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  drain(stream);
  streams().erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  ++counters().host_waits;
  drain(stream);
  note_drain();
  return device_status();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (const auto capture = event->capture.lock()) {
    if (stream->capture == nullptr) {  // the stream joins the capture
      stream->capture = capture;
      stream->frontier.clear();
      capture->members.insert(stream);
    }
    if (stream->capture != capture) return report(cudaErrorStreamCaptureIsolation);
    stream->frontier.insert(event->frontier.begin(), event->frontier.end());
    return cudaSuccess;
  }
  if (stream->capture != nullptr) return report(cudaErrorStreamCaptureIsolation);
  const std::shared_ptr<Mark> mark = event->mark;
  if (mark == nullptr) return cudaSuccess;
  join(stream->clock, mark->clock);
  enqueue(stream,
          {.step = [mark] { return mark->is_over ? Progress::finished : Progress::waiting; },
           .what = "wait"});
  return cudaSuccess;
}

// --- events ----------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (stream->capture != nullptr) {
    event->capture = stream->capture;
    event->frontier.assign(stream->frontier.begin(), stream->frontier.end());
    return cudaSuccess;
  }
  event->capture.reset();
  event->mark = std::make_shared<Mark>();
  const std::shared_ptr<Mark> mark = event->mark;
  enqueue(stream, {.step =
                       [mark] {
                         mark->is_over = true;
                         return Progress::finished;
                       },
                   .what = "record"});
  mark->clock = stream->clock;
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  const std::shared_ptr<Mark> mark = event->mark;
  if (mark == nullptr) return cudaSuccess;
  if (!mark->is_over) {
    if (is_asked_again(mark)) {
      counters().host_waits += mark->is_waited_for ? 0 : 1;
      mark->is_waited_for = true;
    }
    serve_once();  // whoever asks again and again must get an answer some day, in every schedule
    if (!mark->is_over) return report(cudaErrorNotReady);
    if (mark->is_waited_for) note_drain();
  }
  join(host_clock(), mark->clock);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  ++counters().host_waits;
  const std::shared_ptr<Mark> mark = event->mark;
  if (mark == nullptr) return cudaSuccess;
  serve_until([mark] { return mark->is_over; });
  note_drain();
  join(host_clock(), mark->clock);
  return device_status();
}

// --- graphs ----------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture != nullptr) return report(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->members = {stream};
  stream->frontier.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr || capture->origin != stream) {
    return report(cudaErrorStreamCaptureUnmatched);
  }
  const std::set<std::size_t> ends = leaves(capture->nodes);
  const bool is_joined = std::ranges::includes(stream->frontier, ends);
  for (const cudaStream_t member : capture->members) member->capture.reset();
  if (capture->is_broken) return report(cudaErrorStreamCaptureInvalidated);
  if (!is_joined) return report(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

// Each stream of the capture becomes a lane of its own: a replay runs beside that stream.
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  ++counters().captures;
  *exec = new CUgraphExec_st{graph->nodes};
  std::map<std::uint32_t, std::uint32_t> lanes;
  for (Node& node : (*exec)->nodes) {
    const auto [lane, is_new] = lanes.try_emplace(node.operation.lane, 0);
    if (is_new) lane->second = new_lane();
    node.operation.lane = lane->second;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  require_no_error_left();
  ++counters().graph_launches;
  std::vector<Node> nodes = exec->nodes;
  join(stream->clock, host_clock());
  Clock end = stream->clock;
  for (Node& node : nodes) {
    Clock clock = stream->clock;
    for (const std::size_t before : node.after) join(clock, nodes[before].operation.clock);
    stamp(node.operation, node.operation.lane, clock);
    join(end, clock);
  }
  stream->clock = std::move(end);
  static std::uint64_t replays = 0;
  const auto replay =
      std::make_shared<Replay>(std::move(nodes), (std::uint64_t{1} << 40) + ++replays);
  enqueue(stream, {.step = [replay] { return replay->step(); }, .what = "graph"});
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

}  // extern "C"
