// Streams as queues, served in an order that CUDA allows and the seed chooses.
//
// Every operation has a place on a lane (a stream, or a stream within a graph) and a clock: of each
// lane, the last operation that is known to be over when it begins. The race check asks it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace ptb::cuda_on_cpu {

using Clock = std::vector<std::uint32_t>;
void join(Clock& clock, const Clock& other);  // the later of both, lane by lane

enum class Progress {
  finished,
  advanced,
  waiting,    // for another operation of this process
  elsewhere,  // for another process
};

struct Operation {
  std::function<Progress()> step;
  const char* what = "";
  std::string where{};     // "stack.cu:91", of a kernel
  bool has_begun = false;  // for the trace
  std::uint32_t lane = 0, number = 0;
  Clock clock{};
};
std::uint32_t new_lane();
// Gives the operation the lane's next number, and both clocks what precedes them.
void stamp(Operation& operation, std::uint32_t lane, Clock& clock);
// The operation that runs; null while none does.
inline const Operation*& current_operation() {
  static const Operation* operation = nullptr;
  return operation;
}

// Between cudaStreamBeginCapture and cudaStreamEndCapture: operations become nodes.
struct Node {
  Operation operation;
  std::vector<std::size_t> after{};  // nodes
};
struct Capture {
  std::vector<Node> nodes{};
  std::set<cudaStream_t> members{};
  cudaStream_t origin = nullptr;
  bool is_broken = false;  // something was called that a capture forbids
};

}  // namespace ptb::cuda_on_cpu

struct CUstream_st {
  std::deque<ptb::cuda_on_cpu::Operation> queue{};
  std::uint32_t lane = 0;
  ptb::cuda_on_cpu::Clock clock{};
  std::shared_ptr<ptb::cuda_on_cpu::Capture> capture{};
  std::set<std::size_t> frontier{};  // nodes that the next captured operation comes after
};

namespace ptb::cuda_on_cpu {

std::set<cudaStream_t>& streams();
Clock& host_clock();

// Appends to the stream, or to the graph that is being captured.
void enqueue(cudaStream_t stream, Operation operation);
// Operations that the host has enqueued so far.
std::uint64_t enqueued();
// Serves the streams until `is_over`; until then it may have to wait for other processes.
void serve_until(const std::function<bool()>& is_over);
// A step of any of them, or some; nothing if there is no work.
void serve_once();
void drain(cudaStream_t stream);
void drain_all();

// A call that a capture forbids: it breaks the capture that is under way. False if there is none.
bool breaks_capture();

}  // namespace ptb::cuda_on_cpu
