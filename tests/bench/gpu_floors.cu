// The floors of a GPU, which the speed of training is measured against: how fast it copies memory,
// multiplies matrices, and starts a kernel that needs the one before it.
//
// Usage: ptb_dist_gpu_floors [--megabytes N] [--extent N] [--chain N] [--repeats N] [--rounds N]
// Prints the device, then one JSON line for each floor, which gpu.py reads; medians over rounds:
//
//   copy       GB/s read and written by a copy of N MB within device memory: 2·bytes / time
//   tf32, bf16 TFLOP/s of cuBLAS on a square product of that extent: 2·extent³ / time
//   launch     microseconds a kernel, in a graph that is a chain of N kernels of one thread
//
// A round is `repeats` times the same work, enqueued at once; the host's clock runs until the
// stream is idle. Matrices hold random values: with zeros a GPU needs less power and runs faster.
// Expect a second. Exit status 0, 2 for a wrong command line, 69 without a GPU.
#include <cuda_bf16.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/device.hpp"
#include "backend/cuda/handles.hpp"
#include "backend/cuda/launch.hpp"
#include "tool.hpp"
#include "ptb_dist/base/stopwatch.hpp"

namespace {

using namespace ptb::cuda;

constexpr unsigned kThreads = 256;
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;  // what NVIDIA recommends for Hopper

struct Options {
  std::int64_t megabytes = 1024;
  int extent = 8192;
  int chain = 1000;
  int repeats = 10;
  int rounds = 7;
};

// to[k] = bits that are uniform in [-1, 1) as fp32: a mixing of k (splitmix32).
__global__ void __launch_bounds__(kThreads) fill(float* __restrict__ to, std::int64_t n) {
  const std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k >= n) return;
  auto bits = static_cast<std::uint32_t>(k) * 0x9e3779b9u;
  bits = (bits ^ (bits >> 16)) * 0x21f0aaadu;
  bits = (bits ^ (bits >> 15)) * 0x735a2d97u;
  to[k] = static_cast<float>(bits >> 8) * (1.0f / (1 << 23)) - 1.0f;
}

__global__ void __launch_bounds__(kThreads)
    round_to_bf16(const float* __restrict__ from, std::int64_t n, __nv_bfloat16* __restrict__ to) {
  const std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < n) to[k] = __float2bfloat16(from[k]);
}

__global__ void add_one(int* counter) { *counter += 1; }

unsigned blocks_for(std::int64_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

class Floors {
 public:
  explicit Floors(const Options& options)
      : options_(options), stream_(make_stream()), cublas_(make_cublas(stream_.get())) {
    workspace_ = allocate_device(kWorkspaceBytes, "the workspace of cuBLAS");
    check(cublasSetWorkspace(cublas_.get(), workspace_.get(), kWorkspaceBytes));
  }

  double copy_gigabytes_per_second() {
    const auto bytes = static_cast<std::size_t>(options_.megabytes) * 1'000'000;
    const auto from = allocate_device(bytes, "the copied bytes");
    const auto to = allocate_device(bytes, "their copy");
    check(cudaMemsetAsync(from.get(), 1, bytes, stream_.get()));
    const double seconds = median_seconds([&] {
      check(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream_.get()));
    });
    return 2 * static_cast<double>(bytes) / seconds / 1e9;
  }

  // c [n,n] = a [n,n]·b [n,n], a and b of `type`, c fp32.
  double product_teraflops(cudaDataType type, cublasComputeType_t arithmetic) {
    const int n = options_.extent;
    const std::int64_t elements = std::int64_t{n} * n;
    const auto a = matrix(elements, type), b = matrix(elements, type);
    const auto c = allocate_device(static_cast<std::size_t>(elements) * sizeof(float), "a product");
    const float one = 1.0f, zero = 0.0f;
    const double seconds = median_seconds([&] {
      check(cublasGemmEx(cublas_.get(), CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a.get(), type, n,
                         b.get(), type, n, &zero, c.get(), CUDA_R_32F, n, arithmetic,
                         CUBLAS_GEMM_DEFAULT));
    });
    return 2.0 * n * static_cast<double>(elements) / seconds / 1e12;
  }

  double launch_microseconds() {
    const auto counter = allocate_device(sizeof(int), "a counter");
    check(cudaMemsetAsync(counter.get(), 0, sizeof(int), stream_.get()));
    auto* const value = reinterpret_cast<int*>(counter.get());
    check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
    for (int k = 0; k < options_.chain; ++k) launch(add_one, {1, 1, stream_.get()}, value);
    cudaGraph_t captured = nullptr;
    check(cudaStreamEndCapture(stream_.get(), &captured));
    const Graph graph(captured);
    cudaGraphExec_t instance = nullptr;
    check(cudaGraphInstantiate(&instance, captured, 0));
    const GraphExec chain(instance);
    return median_seconds([&] { check(cudaGraphLaunch(chain.get(), stream_.get())); }) * 1e6 /
           options_.chain;
  }

 private:
  // Of one `work`, which enqueues it; the first round is not counted.
  double median_seconds(const std::function<void()>& work) {
    std::vector<double> rounds;
    for (int round = -1; round < options_.rounds; ++round) {
      check(cudaStreamSynchronize(stream_.get()));
      const ptb::Stopwatch watch;
      for (int k = 0; k < options_.repeats; ++k) work();
      check(cudaStreamSynchronize(stream_.get()));
      if (round >= 0) rounds.push_back(watch.seconds() / options_.repeats);
    }
    const auto middle = rounds.begin() + options_.rounds / 2;
    std::nth_element(rounds.begin(), middle, rounds.end());
    return *middle;
  }

  // Random values, [elements] of `type`: fp32 or bf16.
  std::shared_ptr<std::byte> matrix(std::int64_t elements, cudaDataType type) {
    auto values = allocate_device(static_cast<std::size_t>(elements) * sizeof(float), "a matrix");
    auto* const reals = reinterpret_cast<float*>(values.get());
    launch(fill, {blocks_for(elements), kThreads, stream_.get()}, reals, elements);
    if (type == CUDA_R_32F) return values;
    auto rounded = allocate_device(static_cast<std::size_t>(elements) * sizeof(__nv_bfloat16),
                                   "a matrix in bf16");
    launch(round_to_bf16, {blocks_for(elements), kThreads, stream_.get()}, reals, elements,
           reinterpret_cast<__nv_bfloat16*>(rounded.get()));
    check(cudaStreamSynchronize(stream_.get()));  // before the fp32 values are freed
    return rounded;
  }

  Options options_;
  Stream stream_;
  std::shared_ptr<std::byte> workspace_;
  CublasHandle cublas_;
};

void print(const char* name, double value, const char* unit, const std::string& what) {
  std::printf(R"({"kind":"floor","floor":"%s","value":%.4g,"unit":"%s","what":"%s"})"
              "\n",
              name, value, unit, what.c_str());
  std::fflush(stdout);
}

void measure(const Options& options) {
  std::printf("%s\n", use_device(0).description.c_str());
  Floors floors(options);
  print("copy", floors.copy_gigabytes_per_second(), "GB/s",
        "read and written, copies of " + std::to_string(options.megabytes) + " MB");
  const std::string extent = std::to_string(options.extent);
  const std::string square = "[" + extent + "," + extent + "]·[" + extent + "," + extent + "]";
  print("tf32", floors.product_teraflops(CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32), "TFLOP/s",
        square);
  print("bf16", floors.product_teraflops(CUDA_R_16BF, CUBLAS_COMPUTE_32F), "TFLOP/s", square);
  print("launch", floors.launch_microseconds(), "us",
        "a kernel, in a graph that is a chain of " + std::to_string(options.chain));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The floors of a GPU: copy, matrix products, dependent launches",
               "ptb_dist_gpu_floors");
  app.add_option("--megabytes", options.megabytes, "of a copy")->check(CLI::Range(1, 100'000));
  app.add_option("--extent", options.extent, "of a square product")->check(CLI::Range(1, 46'000));
  app.add_option("--chain", options.chain, "kernels of a graph")->check(CLI::Range(1, 100'000));
  app.add_option("--repeats", options.repeats, "in a round")->check(CLI::Range(1, 100'000));
  app.add_option("--rounds", options.rounds, "of the median")->check(CLI::Range(1, 10'000));
  return ptb::bench::run_tool(app, argc, argv, [&] { measure(options); });
}
