// What the emulated runtime refuses, or remembers, as a real one does.
#include <cuda_runtime_api.h>

#include <boost/test/unit_test.hpp>
#include <functional>
#include <utility>
#include <vector>

namespace {

// A stream, and what the calls below need.
struct Objects {
  Objects() {
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMalloc(&device, 64);
    cudaHostAlloc(&pinned, 64, cudaHostAllocDefault);
  }
  ~Objects() {
    cudaFree(device);
    cudaFreeHost(pinned);
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
    cudaGetLastError();
  }
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;

  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void *device = nullptr, *pinned = nullptr;
};

BOOST_AUTO_TEST_SUITE(runtime)

BOOST_AUTO_TEST_CASE(calls_that_a_capture_forbids_break_it) {
  const std::vector<std::pair<const char*, std::function<cudaError_t(Objects&)>>> calls = {
      {"cudaMalloc", [](Objects& o) { return cudaMalloc(&o.device, 64); }},
      {"cudaFree", [](Objects& o) { return cudaFree(o.device); }},
      {"cudaHostAlloc", [](Objects& o) { return cudaHostAlloc(&o.pinned, 64, 0); }},
      {"cudaFreeHost", [](Objects& o) { return cudaFreeHost(o.pinned); }},
      {"cudaEventQuery", [](Objects& o) { return cudaEventQuery(o.event); }},
      {"cudaEventSynchronize", [](Objects& o) { return cudaEventSynchronize(o.event); }},
      {"cudaStreamSynchronize", [](Objects& o) { return cudaStreamSynchronize(o.stream); }}};
  for (const auto& [name, call] : calls) {
    BOOST_TEST_CONTEXT(name) {
      Objects objects;
      cudaGraph_t graph = nullptr;
      BOOST_TEST(cudaStreamBeginCapture(objects.stream, cudaStreamCaptureModeThreadLocal) ==
                 cudaSuccess);
      BOOST_TEST(call(objects) == cudaErrorStreamCaptureUnsupported);
      BOOST_TEST(cudaStreamEndCapture(objects.stream, &graph) == cudaErrorStreamCaptureInvalidated);
      BOOST_TEST(graph == nullptr);
      BOOST_TEST(cudaGetLastError() == cudaErrorStreamCaptureInvalidated);
    }
  }
}

// In schedules in which the device does not work at once.
BOOST_AUTO_TEST_CASE(an_event_that_is_not_over_is_the_last_error) {
  Objects objects;
  cudaMemsetAsync(objects.device, 0, 64, objects.stream);
  cudaEventRecord(objects.event, objects.stream);
  const cudaError_t status = cudaEventQuery(objects.event);
  BOOST_TEST((status == cudaSuccess || status == cudaErrorNotReady));
  BOOST_TEST(cudaGetLastError() == status);
  BOOST_TEST(cudaGetLastError() == cudaSuccess);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
