// The floors of a GPU, which the speed of training is measured against, and what decides how its
// steps should be built: how fast it copies and reads memory, multiplies the matrices of the
// models, and starts a kernel, a graph or a barrier that needs the one before it.
//
// Usage: ptb_dist_gpu_floors [--what chip,chain,graphs,barrier,read,products] [--models small,...]
//            [--precisions fp32,tf32,bf16] [--rounds N] [--seconds S] [sizes: --help]
// Prints the device, then one JSON line for each floor, which gpu.py reads; medians over rounds, of
// which there are no more than S seconds have room for. By --what:
//
//   chip       copy        GB/s read and written by a copy within device memory: 2·bytes / time
//              tf32, bf16  TFLOP/s of cuBLAS on a square product of that extent: 2·extent³ / time
//              launch      microseconds a kernel, in a graph that is a chain of tiny kernels
//   chain      microseconds a step of h·Wh and a kernel over the cells, each waiting for the other
//   graphs     microseconds that as many kernels take as one graph, as ten, and as ten with a copy
//              of 32 bytes up and one down behind each
//   barrier    microseconds a barrier of a whole grid (a cooperative launch)
//   read       GB/s of a kernel that reads the same 18 or 36 MB again and again: of the L2 cache,
//              as far as that holds them; no block reads a part twice in a row
//   products   microseconds of each product of the models, alone, and of two at once on two
//              streams, where its weights have just been used; "padded": rows, and an inner extent
//              along them, are rounded up to 8 elements
//
// A round is the same work several times, enqueued at once; the host's clock runs until the stream
// is idle. Every kernel has run before it is captured. Matrices hold random values: with zeros a
// GPU needs less power and runs faster. Exit status 0, 2 for a wrong command line, 69 without a
// GPU.
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
#include "backend/cuda/products.hpp"
#include "ptb_dist/backend/cell_math.hpp"
#include "ptb_dist/base/stopwatch.hpp"
#include "tool.hpp"
#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif

namespace {

using namespace ptb::cuda;

constexpr unsigned kThreads = 256;
constexpr std::size_t kSmallCopy = 32;  // bytes

struct Model {
  std::string name;
  int H, B, T, V;
};
const std::vector<Model> kModels = {{"small", 200, 20, 20, 10'000},
                                    {"medium", 650, 20, 35, 10'000},
                                    {"large", 1500, 20, 35, 10'000},
                                    {"tiny", 18, 4, 6, 200}};

struct Arithmetic {
  std::string name;
  cudaDataType type;
  cublasComputeType_t compute;
};
const std::vector<Arithmetic> kArithmetics = {{"fp32", CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
                                              {"tf32", CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
                                              {"bf16", CUDA_R_16BF, CUBLAS_COMPUTE_32F}};

struct Options {
  std::vector<std::string> what = {"chip", "chain", "graphs", "barrier", "read", "products"};
  std::vector<std::string> models = {"small", "medium", "large"};
  std::vector<std::string> precisions = {"fp32", "tf32", "bf16"};
  std::int64_t megabytes = 1024;
  int extent = 8192;
  int chain = 1000;
  int products = 100;
  std::vector<int> read_megabytes = {18, 36};
  unsigned read_blocks = 1056;  // eight for each multiprocessor of an H100 or H200
  std::vector<int> barrier_blocks = {132, 17};
  int repeats = 10;
  int rounds = 7;
  double seconds = 0.25;
};

template <class T>
std::vector<T> chosen(const std::vector<T>& all, const std::vector<std::string>& names) {
  std::vector<T> found;
  for (const T& one : all) {
    if (std::ranges::find(names, one.name) != names.end()) found.push_back(one);
  }
  return found;
}

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

__device__ void store(float value, float* to) { *to = value; }
__device__ void store(float value, __nv_bfloat16* to) { *to = __float2bfloat16(value); }

// A step of a layer as the backend's forward_step, but that it leaves h as the product takes it.
// gates [B,4H], c [B,H], h [B,stride]
template <class Operand>
__global__ void __launch_bounds__(kThreads)
    cell_step(float* __restrict__ gates, float* __restrict__ c, Operand* __restrict__ h, int B,
              int H, int stride) {
  const auto index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= B * H) return;
  const int lane = index / H, k = index % H;
  float* const z = gates + std::int64_t{lane} * 4 * H + k;
  const ptb::cell::LstmUnit<float> u =
      ptb::cell::lstm_forward(z[0], z[H], z[2 * H], z[3 * H], c[index], 0.0f);
  z[0] = u.i;
  z[H] = u.j;
  z[2 * H] = u.f;
  z[3 * H] = u.o;
  c[index] = u.c;
  store(u.h, h + std::int64_t{lane} * stride + k);
}

// Each block reads parts of `part` values, `times` of them, a distant one each time, so that what
// it finds is in the L2 cache and not in its own.
__global__ void __launch_bounds__(kThreads)
    read_again(const float4* __restrict__ from, unsigned blocks, unsigned part, unsigned times,
               float* __restrict__ never) {
  float sum = 0;
  for (unsigned time = 0; time < times; ++time) {
    const float4* const mine = from + std::size_t{(blockIdx.x + time * 37) % blocks} * part;
    for (unsigned k = threadIdx.x; k < part; k += kThreads) {
      const float4 v = mine[k];
      sum += v.x + v.y + v.z + v.w;
    }
  }
  if (sum == 12345.678f) *never = sum;  // or nothing would be read
}

#ifdef __CUDACC__
__global__ void __launch_bounds__(kThreads) meet(int times) {
  for (int time = 0; time < times; ++time) cooperative_groups::this_grid().sync();
}

bool launch_meeting(unsigned blocks, int times, cudaStream_t stream) {
  void* arguments[] = {&times};
  check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(meet), blocks, kThreads,
                                    arguments, 0, stream));
  return true;
}
#else
// Its blocks run one after the other.
bool launch_meeting(unsigned, int, cudaStream_t) { return false; }
#endif

unsigned blocks_for(std::int64_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }
int rounded_up(int extent) { return (extent + 7) / 8 * 8; }

std::size_t bytes_of(std::int64_t elements, cudaDataType type) {
  return static_cast<std::size_t>(elements) * (type == CUDA_R_32F ? sizeof(float) : 2);
}

// Random values, [elements] of `type`: fp32 or bf16.
std::shared_ptr<std::byte> matrix(std::int64_t elements, cudaDataType type, cudaStream_t stream) {
  auto values = allocate_device(bytes_of(elements, CUDA_R_32F), "a matrix");
  auto* const reals = reinterpret_cast<float*>(values.get());
  launch(fill, {blocks_for(elements), kThreads, stream}, reals, elements);
  if (type == CUDA_R_32F) return values;
  auto rounded = allocate_device(bytes_of(elements, type), "a matrix in bf16");
  launch(round_to_bf16, {blocks_for(elements), kThreads, stream}, reals, elements,
         reinterpret_cast<__nv_bfloat16*>(rounded.get()));
  check(cudaStreamSynchronize(stream));  // before the fp32 values are freed
  return rounded;
}

// c [m,n] = a·b, row-major, c fp32; of transposed operands the transpose is in memory.
struct Product {
  std::string name;
  int m, n, k;
  bool is_a_transposed = false, is_b_transposed = false;
  float keep = 0;  // of what c had
};

// Those of a window with all its layers: B lanes, T steps, pieces of five steps.
std::vector<Product> products_of(const Model& model) {
  const auto& [name, H, B, T, V] = model;
  const int N = T * B, piece = std::min(T, 5) * B;
  return {{"x·Wx", N, 4 * H, H},
          {"x·Wx of a piece", piece, 4 * H, H},
          {"h·Wh", B, 4 * H, H, false, false, 1},
          {"h·W of the softmax", N, V, H},
          {"d_logits·Wᵀ", N, H, V, false, true},
          {"hᵀ·d_logits", H, V, N, true},
          {"d_z·Whᵀ", B, H, 4 * H, false, true},
          {"d_z·Wxᵀ of a piece", piece, H, 4 * H, false, true},
          {"d_z·Wxᵀ", N, H, 4 * H, false, true},
          {"hᵀ·d_z", H, 4 * H, N, true}};
}

// The same with extents as they are in memory.
struct Layout {
  int a_rows, a_stride, b_rows, b_stride, k;
  bool operator==(const Layout&) const = default;
};

Layout layout_of(const Product& p, bool is_padded) {
  const auto extent = [&](int of) { return is_padded ? rounded_up(of) : of; };
  // The inner extent lies along the rows of an operand, but where both are read across them.
  const int k = !p.is_a_transposed || p.is_b_transposed ? extent(p.k) : p.k;
  return {.a_rows = p.is_a_transposed ? k : p.m,
          .a_stride = p.is_a_transposed ? extent(p.m) : k,
          .b_rows = p.is_b_transposed ? p.n : k,
          .b_stride = p.is_b_transposed ? k : extent(p.n),
          .k = k};
}

std::vector<bool> paddings_of(const Product& p) {
  if (layout_of(p, true) == layout_of(p, false)) return {false};
  return {false, true};
}

// A stream with a cuBLAS and a workspace of its own.
class Lane {
 public:
  explicit Lane(std::size_t workspace_size)
      : stream_(make_stream()),
        reached_(make_event()),
        workspace_(allocate_device(workspace_size, "the workspace of cuBLAS")),
        cublas_(make_cublas(stream_.get())) {
    check(cublasSetWorkspace(cublas_.get(), workspace_.get(), workspace_size));
  }
  cudaStream_t stream() const { return stream_.get(); }

  void wait_for(const Lane& other) {
    check(cudaEventRecord(other.reached_.get(), other.stream()));
    check(cudaStreamWaitEvent(stream(), other.reached_.get(), 0));
  }

  // cuBLAS is column-major: cᵀ = bᵀ·aᵀ.
  void multiply(const Product& p, const Layout& in, const void* a, const void* b, void* c,
                const Arithmetic& with) {
    const float one = 1.0f;
    check(cublasGemmEx(cublas_.get(), p.is_b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                       p.is_a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p.n, p.m, in.k, &one, b,
                       with.type, in.b_stride, a, with.type, in.a_stride, &p.keep, c, CUDA_R_32F,
                       p.n, with.compute, CUBLAS_GEMM_DEFAULT));
  }

 private:
  Stream stream_;
  CudaEvent reached_;
  std::shared_ptr<std::byte> workspace_;
  CublasHandle cublas_;
};

// A product's matrices.
class Operands {
 public:
  Operands(const Product& p, const Layout& in, const Arithmetic& with, cudaStream_t stream)
      : a(matrix(std::int64_t{in.a_rows} * in.a_stride, with.type, stream)),
        b(matrix(std::int64_t{in.b_rows} * in.b_stride, with.type, stream)),
        c(matrix(std::int64_t{p.m} * p.n, CUDA_R_32F, stream)) {
    check(cudaStreamSynchronize(stream));
  }

  std::shared_ptr<std::byte> a, b, c;
};

void print_floor(const std::string& name, double value, const char* unit, const std::string& what) {
  std::printf(R"({"kind":"floor","floor":"%s","value":%.4g,"unit":"%s","what":"%s"})"
              "\n",
              name.c_str(), value, unit, what.c_str());
  std::fflush(stdout);  // what was measured is not lost with the rest
}

class Floors {
 public:
  Floors(const Options& options, const Device& device)
      : options_(options),
        main_(workspace_bytes(device.generation)),
        side_(workspace_bytes(device.generation)) {
    counter_ = allocate_device(sizeof(int), "a counter");
    check(cudaMemsetAsync(counter_.get(), 0, sizeof(int), stream()));
  }

  void chip() {
    print_floor("copy", copy_gigabytes_per_second(), "GB/s",
                "read and written, copies of " + std::to_string(options_.megabytes) + " MB");
    const std::string n = std::to_string(options_.extent);
    const std::string square = "[" + n + "," + n + "]·[" + n + "," + n + "]";
    for (const Arithmetic& with : kArithmetics) {
      if (with.name == "fp32") continue;
      print_floor(with.name, square_teraflops(with), "TFLOP/s", square);
    }
    const GraphExec graph = chain_of(options_.chain);
    print_floor("launch", microseconds(graph) / options_.chain, "us",
                "a kernel, in a graph that is a chain of " + std::to_string(options_.chain));
  }

  void chain() {
    for (const Model& model : chosen(kModels, options_.models)) {
      for (const Arithmetic& with : chosen(kArithmetics, options_.precisions)) {
        const Product product = products_of(model)[2];
        for (const bool is_padded : paddings_of(product)) {
          const double us = with.type == CUDA_R_32F
                                ? step_microseconds<float>(model, product, with, is_padded)
                                : step_microseconds<__nv_bfloat16>(model, product, with, is_padded);
          print_floor(
              "step " + model.name + " " + with.name, us, "us",
              std::string("h·Wh and a kernel over the cells") + (is_padded ? ", padded" : ""));
        }
      }
    }
  }

  void graphs() {
    constexpr int kParts = 10;
    const int kernels = std::max(options_.chain / kParts, 1);
    const GraphExec whole = chain_of(kernels * kParts), part = chain_of(kernels);
    const auto down = allocate_pinned(kSmallCopy), up = allocate_pinned(kSmallCopy);
    std::fill_n(up.get(), kSmallCopy, std::byte{0});
    const auto device = allocate_device(kSmallCopy, "a few bytes");
    const auto parts = [&](bool has_copies) {
      return 1e6 * median_seconds(1, [&] {
               for (int k = 0; k < kParts; ++k) {
                 launch_graph(part);
                 if (!has_copies) continue;
                 check(cudaMemcpyAsync(device.get(), up.get(), kSmallCopy, cudaMemcpyHostToDevice,
                                       stream()));
                 check(cudaMemcpyAsync(down.get(), device.get(), kSmallCopy, cudaMemcpyDeviceToHost,
                                       stream()));
               }
             });
    };
    const std::string what = std::to_string(kernels * kParts) + " kernels of one thread, as ";
    print_floor("graphs 1", 1e6 * median_seconds(1, [&] { launch_graph(whole); }), "us",
                what + "one graph");
    print_floor("graphs 10", parts(false), "us", what + "ten graphs");
    print_floor("graphs 10, copies", parts(true), "us",
                what + "ten graphs, 32 bytes up and 32 down behind each");
  }

  void barrier() {
    for (const int blocks : options_.barrier_blocks) {
      const int times = options_.chain;
      const auto grid = static_cast<unsigned>(blocks);
      if (!launch_meeting(grid, 1, stream())) {
        std::printf(R"({"kind":"note","text":"grid barrier: not on the emulation"})"
                    "\n");
        return;
      }
      const double seconds = median_seconds(1, [&] { launch_meeting(grid, times, stream()); });
      print_floor("barrier " + std::to_string(blocks), 1e6 * seconds / times, "us",
                  "of a grid of so many blocks");
    }
  }

  void read() {
    for (const int megabytes : options_.read_megabytes) {
      constexpr unsigned kTimes = 50;
      const unsigned blocks = options_.read_blocks;
      const auto values = std::int64_t{megabytes} * 1'000'000 / 4;
      const auto part = static_cast<unsigned>(values / 4 / blocks);
      const auto from = matrix(values, CUDA_R_32F, stream());
      const auto never = allocate_device(sizeof(float), "a float");
      const double seconds = median_seconds(1, [&] {
        launch(read_again, {blocks, kThreads, stream()},
               reinterpret_cast<const float4*>(from.get()), blocks, part, kTimes,
               reinterpret_cast<float*>(never.get()));
      });
      const double bytes = 16.0 * part * blocks * kTimes;
      print_floor("read " + std::to_string(megabytes) + " MB", bytes / seconds / 1e9, "GB/s",
                  "the same bytes again and again, " + std::to_string(blocks) + " blocks");
    }
  }

  void products() {
    for (const Model& model : chosen(kModels, options_.models)) {
      for (const Arithmetic& with : chosen(kArithmetics, options_.precisions)) {
        for (const Product& product : products_of(model)) {
          for (const bool is_padded : paddings_of(product)) {
            measure_product(model, product, with, is_padded);
          }
        }
      }
    }
  }

 private:
  cudaStream_t stream() const { return main_.stream(); }

  // Of one `work`, which enqueues it and is done `repeats` times in a round; the first round is not
  // counted.
  double median_seconds(int repeats, const std::function<void()>& work) {
    std::vector<double> rounds;
    const ptb::Stopwatch whole;
    for (int round = -1; round < options_.rounds; ++round) {
      if (round > 0 && whole.seconds() > options_.seconds) break;
      check(cudaStreamSynchronize(stream()));
      const ptb::Stopwatch watch;
      for (int k = 0; k < repeats; ++k) work();
      check(cudaStreamSynchronize(stream()));
      if (round >= 0) rounds.push_back(watch.seconds() / repeats);
    }
    const auto middle = rounds.begin() + std::ssize(rounds) / 2;
    std::nth_element(rounds.begin(), middle, rounds.end());
    return *middle;
  }

  // Of one launch. A round has several where they are short, since the time in which the host
  // begins and ends it is part of the figure.
  double microseconds(const GraphExec& graph) {
    constexpr double kRoundSeconds = 0.005;
    launch_graph(graph);
    check(cudaStreamSynchronize(stream()));
    const ptb::Stopwatch watch;
    launch_graph(graph);
    check(cudaStreamSynchronize(stream()));
    const double fit = kRoundSeconds / watch.seconds();
    const int repeats =
        static_cast<int>(std::clamp(fit, 1.0, static_cast<double>(options_.repeats)));
    return 1e6 * median_seconds(repeats, [&] { launch_graph(graph); });
  }

  void launch_graph(const GraphExec& graph) { check(cudaGraphLaunch(graph.get(), stream())); }

  // `enqueue` is told how often; once before the capture, so that all is loaded.
  GraphExec captured(int times, const std::function<void(int)>& enqueue) {
    enqueue(1);
    check(cudaStreamSynchronize(stream()));
    check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    enqueue(times);
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream(), &graph));
    const Graph owner(graph);
    cudaGraphExec_t instance = nullptr;
    check(cudaGraphInstantiate(&instance, graph, 0));
    return GraphExec(instance);
  }

  GraphExec chain_of(int kernels) {
    auto* const value = reinterpret_cast<int*>(counter_.get());
    return captured(kernels, [&](int times) {
      for (int k = 0; k < times; ++k) launch(add_one, {1, 1, stream()}, value);
    });
  }

  double copy_gigabytes_per_second() {
    const auto bytes = static_cast<std::size_t>(options_.megabytes) * 1'000'000;
    const auto from = allocate_device(bytes, "the copied bytes");
    const auto to = allocate_device(bytes, "their copy");
    check(cudaMemsetAsync(from.get(), 1, bytes, stream()));
    const double seconds = median_seconds(options_.repeats, [&] {
      check(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream()));
    });
    return 2 * static_cast<double>(bytes) / seconds / 1e9;
  }

  double square_teraflops(const Arithmetic& with) {
    const int n = options_.extent;
    const Product square{"square", n, n, n};
    const Layout in = layout_of(square, false);
    const Operands of(square, in, with, stream());
    const double seconds = median_seconds(options_.repeats, [&] {
      main_.multiply(square, in, of.a.get(), of.b.get(), of.c.get(), with);
    });
    return 2.0 * n * n * n / seconds / 1e12;
  }

  template <class Operand>
  double step_microseconds(const Model& model, const Product& product, const Arithmetic& with,
                           bool is_padded) {
    const Layout in = layout_of(product, is_padded);
    const Operands of(product, in, with, stream());  // h, Wh, gates
    const std::int64_t cells = std::int64_t{model.B} * model.H;
    const auto c = matrix(cells, CUDA_R_32F, stream());
    const GraphExec graph = captured(options_.products, [&](int times) {
      for (int k = 0; k < times; ++k) {
        main_.multiply(product, in, of.a.get(), of.b.get(), of.c.get(), with);
        launch(cell_step<Operand>, {blocks_for(cells), kThreads, stream()},
               reinterpret_cast<float*>(of.c.get()), reinterpret_cast<float*>(c.get()),
               reinterpret_cast<Operand*>(of.a.get()), model.B, model.H, in.a_stride);
      }
    });
    return microseconds(graph) / options_.products;
  }

  void measure_product(const Model& model, const Product& product, const Arithmetic& with,
                       bool is_padded) {
    const Layout in = layout_of(product, is_padded);
    const Operands first(product, in, with, stream()), second(product, in, with, stream());
    const auto enqueue = [&](Lane& lane, const Operands& of, int times) {
      for (int k = 0; k < times; ++k) {
        lane.multiply(product, in, of.a.get(), of.b.get(), of.c.get(), with);
      }
    };
    const GraphExec alone =
        captured(options_.products, [&](int times) { enqueue(main_, first, times); });
    const GraphExec both = captured(options_.products, [&](int times) {
      side_.wait_for(main_);
      enqueue(main_, first, times);
      enqueue(side_, second, times);
      main_.wait_for(side_);
    });
    std::printf(R"({"kind":"product","model":"%s","product":"%s","m":%d,"n":%d,"k":%d,)"
                R"("precision":"%s","strides":"%s","us":%.4g,"us_of_two":%.4g})"
                "\n",
                model.name.c_str(), product.name.c_str(), product.m, product.n, product.k,
                with.name.c_str(), is_padded ? "padded" : "plain",
                microseconds(alone) / options_.products, microseconds(both) / options_.products);
    std::fflush(stdout);
  }

  Options options_;
  Lane main_, side_;
  std::shared_ptr<std::byte> counter_;
};

void measure(const Options& options) {
  const Device device = use_device(0);
  std::printf("%s\n", device.description.c_str());
  Floors floors(options, device);
  struct Part {
    std::string name;
    void (Floors::*run)();
  };
  const std::vector<Part> parts = {{"chip", &Floors::chip},     {"chain", &Floors::chain},
                                   {"graphs", &Floors::graphs}, {"barrier", &Floors::barrier},
                                   {"read", &Floors::read},     {"products", &Floors::products}};
  for (const Part& part : chosen(parts, options.what)) (floors.*part.run)();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The floors of a GPU: memory, matrix products, dependent launches",
               "ptb_dist_gpu_floors");
  const auto names = [&](const char* flag, std::vector<std::string>& to, const char* meaning) {
    app.add_option(flag, to, meaning)->delimiter(',')->check(CLI::IsMember(to));
  };
  names("--what", options.what, "which floors");
  app.add_option("--models", options.models, "of products and chains")
      ->delimiter(',')
      ->check(CLI::IsMember({"small", "medium", "large", "tiny"}));
  names("--precisions", options.precisions, "of products and chains");
  app.add_option("--megabytes", options.megabytes, "of a copy")->check(CLI::Range(1, 100'000));
  app.add_option("--extent", options.extent, "of a square product")->check(CLI::Range(1, 46'000));
  app.add_option("--chain", options.chain, "kernels of a graph")->check(CLI::Range(1, 100'000));
  app.add_option("--products", options.products, "of a graph")->check(CLI::Range(1, 10'000));
  app.add_option("--read-megabytes", options.read_megabytes, "again and again")
      ->delimiter(',')
      ->check(CLI::Range(1, 1000));
  app.add_option("--read-blocks", options.read_blocks, "that read")->check(CLI::Range(1, 100'000));
  app.add_option("--barrier-blocks", options.barrier_blocks, "of a grid that meets")
      ->delimiter(',')
      ->check(CLI::Range(1, 100'000));
  app.add_option("--repeats", options.repeats, "of what is short, in a round")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--rounds", options.rounds, "of the median")->check(CLI::Range(1, 10'000));
  app.add_option("--seconds", options.seconds, "for the rounds of one floor")
      ->check(CLI::Range(0.0, 100.0));
  return ptb::bench::run_tool(app, argc, argv, [&] { measure(options); });
}
