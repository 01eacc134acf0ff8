#include "backend/cuda/cuda_backend.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/door.hpp"

namespace ptb::cuda {
namespace {

Precision precision_of(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "tf32" || name == "auto") return Precision::tf32;
  if (name == "bf16") return Precision::bf16;
  throw Error(ExitCode::usage, {.what = "the CUDA backend does not have this precision",
                                .where = fmt::format("precision = \"{}\"", name),
                                .remedy = "use --precision fp32, tf32 or bf16"});
}

std::vector<Queue> make_queues(int count, Precision precision, int generation,
                               const WeightCopies& copies) {
  std::vector<Queue> queues;
  for (int k = 0; k < count; ++k) queues.emplace_back(precision, generation, copies);
  return queues;
}

}  // namespace

CudaBackend::CudaBackend(Device device, Precision precision, bool captures_segments,
                         const Overlap& overlap)
    : device_(std::move(device)),
      precision_(precision),
      captures_segments_(captures_segments),
      overlap_(overlap),
      copies_(precision),
      queues_(make_queues(overlap.queues, precision, device_.generation, copies_)),
      staging_(stream()),
      step_(allocate_device(sizeof(StepState), "the state of a step")),
      host_copies_(events_) {
  set_step({});
}

std::string CudaBackend::identity() const {
  return fmt::format("cuda, {}, {}", device_.description, queues_.front().products().description());
}

PhysicalDevice CudaBackend::device() const {
  PhysicalDevice device = device_.physical;
  device.peak_flops = peak_flops(device_, precision_);
  return device;
}

// The sum of: cuBLAS' workspaces; d_h, d_c and the losses of rows; for bf16 the copies of the
// weights and room for the largest operands: d_logits or d_z, shared by two queues; d_z on one
// queue; the gradient of a recurrent share on another; a layer's input on two.
std::int64_t CudaBackend::own_bytes(const Extents& e) const {
  constexpr std::int64_t kFloat = sizeof(float), kDouble = sizeof(double), kBf16 = 2;
  const std::int64_t cells = *std::ranges::max_element(e.lanes) * e.hidden;  // of a step
  const CellTraits cell = traits_of(e.cell);
  const std::int64_t gates = cell.gates * e.hidden;
  const std::int64_t bytes =
      static_cast<std::int64_t>(queues_.size() * workspace_bytes(device_.generation)) +
      2 * e.layers * cells * kFloat + e.positions * kDouble;
  if (precision_ != Precision::bf16) return bytes;
  const std::int64_t copies = e.layers * 2 * e.hidden * gates + e.hidden * e.vocab;
  const std::int64_t share = cell.has_recurrent_share ? gates : 0;
  const std::int64_t operands =
      e.positions * (std::max(e.vocab, gates) + gates + share + 2 * e.hidden);
  return bytes + (copies + operands) * kBf16;
}

std::int64_t CudaBackend::device_bytes_in_use() const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(total - free);
}

Tensor CudaBackend::allocate(ElementType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  Tensor tensor(allocate_device(bytes, "a tensor " + shape.text()), type, shape);
  set_zero(tensor);
  return tensor;
}

void CudaBackend::upload(const Tensor& to, std::span<const std::byte> from) {
  require(to.bytes() == from.size(), "an upload has the tensor's size");
  staging_.upload(to.raw(), from);
}

void CudaBackend::download(const Tensor& from, std::span<std::byte> to) {
  require(from.bytes() == to.size(), "a download has the tensor's size");
  staging_.download(from.raw(), to);
}

Arrival CudaBackend::begin_download(const Tensor& from) {
  const std::shared_ptr<std::byte> values = arrivals_.take(from.bytes());
  check(cudaMemcpyAsync(values.get(), from.raw(), from.bytes(), cudaMemcpyDeviceToHost, stream()));
  return {.values = values, .event = record()};
}

void CudaBackend::set_zero(const Tensor& tensor) {
  if (!tensor.empty()) check(cudaMemsetAsync(tensor.raw(), 0, tensor.bytes(), stream()));
}

// Without the embedding: its rows are copied, not multiplied.
void CudaBackend::prepare(const Weights& weights) {
  for (const Weights::Layer& layer : weights.layers) {
    copies_.renew(layer.kernel.data<float>(), layer.kernel.elements(), weights.version, stream());
  }
  copies_.renew(weights.softmax_weight.data<float>(), weights.softmax_weight.elements(),
                weights.version, stream());
}

void CudaBackend::set_step(const StepState& step) {
  staging_.upload(step_.get(), std::as_bytes(std::span(&step, 1)));
}

void CudaBackend::run_segment(SegmentKey key, const std::function<void()>& segment) {
  CapturedSegment& known = segments_[key];
  if (!known.has_run || !captures_segments_) {
    segment();
    known.has_run = true;
    return;
  }
  if (known.graph == nullptr) known.graph = capture(segment);
  check(cudaGraphLaunch(known.graph.get(), stream()));
}

GraphExec CudaBackend::capture(const std::function<void()>& segment) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  segment();
  check(cudaStreamEndCapture(stream(), &graph));
  const Graph owner(graph);
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph, 0));
  return GraphExec(exec);
}

Event CudaBackend::record() { return events_.record(stream()); }

void CudaBackend::wait(const Event& event) {
  if (event == nullptr) return;
  check(cudaStreamWaitEvent(stream(), EventPool::handle(event), 0));
}

bool CudaBackend::done(const Event& event) {
  return event == nullptr || has_happened(EventPool::handle(event));
}

void CudaBackend::fork() {
  for (std::size_t k = 1; k < queues_.size(); ++k) queue(k).wait_for(queue(0));
}

void CudaBackend::join() {
  for (std::size_t k = 1; k < queues_.size(); ++k) queue(0).wait_for(queue(k));
}

}  // namespace ptb::cuda

namespace ptb {

CudaLook look_for_cuda() { return cuda::look_for_cuda(); }

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, const Overlap& overlap) {
  const cuda::Precision precision = cuda::precision_of(options.precision);
  cuda::Device device = cuda::use_device(options.host_rank);
  return std::make_unique<cuda::CudaBackend>(std::move(device), precision,
                                             options.captures_segments, overlap);
}

}  // namespace ptb
