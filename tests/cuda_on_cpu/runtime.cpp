// The CUDA runtime's functions for devices, memory, copies and launches, under the prototypes of
// the toolkit's own header. A function that is not here is a link error.
#include "cuda_on_cpu/runtime.hpp"

#include <algorithm>
#include <cstring>

#include "cuda_on_cpu/blocks.hpp"
#include "cuda_on_cpu/memory.hpp"
#include "cuda_on_cpu/race.hpp"
#include "cuda_on_cpu/settings.hpp"
#include "cuda_on_cpu/streams.hpp"

namespace ptb::cuda_on_cpu {
namespace {

cudaError_t last_error = cudaSuccess;
cudaError_t broken = cudaSuccess;
int device_in_use = 0;

// What CUDA_ON_CPU_FAIL has such calls answer.
cudaError_t injected(const char* kind) {
  return settings().failing == kind ? static_cast<cudaError_t>(settings().failing_at) : cudaSuccess;
}

// What every call checks first.
cudaError_t ready() {
  if (broken != cudaSuccess) return report(broken);
  if (settings().driver < CUDART_VERSION / 1000 * 1000) return report(cudaErrorInsufficientDriver);
  if (settings().devices == 0) return report(cudaErrorNoDevice);
  if (const cudaError_t status = injected("driver"); status != cudaSuccess) return report(status);
  return cudaSuccess;
}

// What every call checks first that works on a device, not only asks about it.
cudaError_t device_ready() {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  return report(injected("device"));
}

// A copy between device memory and page-locked memory reads its source when it runs, not when it is
// asked for: the source must not change meanwhile, and the target must not be read.
Operation host_copy(void* to, const void* from, std::size_t bytes) {
  const bool is_upload = is_device(to);
  if (!is_pinned(is_upload ? from : to, bytes)) fail("an asynchronous copy of pageable memory");
  std::vector<unsigned char> source;
  if (is_upload) {
    const auto* begin = static_cast<const unsigned char*>(from);
    source.assign(begin, begin + bytes);
  } else {
    std::memset(to, 0xff, bytes);  // NaN for whoever reads too early
  }
  const auto step = [=, source = std::move(source)] {
    if (is_upload && std::memcmp(source.data(), from, bytes) != 0) {
      fail("page-locked memory is overwritten before it has been copied");
    }
    note_access(is_upload ? to : from, bytes, is_upload);
    std::memcpy(to, from, bytes);
    return Progress::finished;
  };
  return {.step = step, .what = "copy"};
}

Operation device_copy(void* to, const void* from, std::size_t bytes) {
  const auto step = [=] {
    note_access(from, bytes, false);
    note_access(to, bytes, true);
    std::memcpy(to, from, bytes);
    return Progress::finished;
  };
  return {.step = step, .what = "copy"};
}

bool is_possible(dim3 grid, dim3 block) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x < (1u << 31) && grid.y < 65536 &&
         grid.z < 65536 && threads > 0 && threads <= 1024 && block.z <= 64;
}

}  // namespace

cudaError_t report(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

void break_device(cudaError_t status) { broken = status; }
cudaError_t device_status() { return device_ready(); }

void require_no_error_left() {
  if (broken == cudaSuccess && last_error != cudaSuccess) {
    fail("error " + std::to_string(static_cast<int>(last_error)) +
         " of an earlier call is still the last error");
  }
}

int current_device() { return settings().first_device + device_in_use; }

}  // namespace ptb::cuda_on_cpu

using namespace ptb::cuda_on_cpu;

extern "C" {

// --- errors ----------------------------------------------------------------------------------

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error;
  last_error = broken;  // that one stays
  return status;
}

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "another error";
  }
}

const char* cudaGetErrorString(cudaError_t) { return "told by the emulation"; }

// --- devices ---------------------------------------------------------------------------------

cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings().driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// Like the real one it leaves the count alone where it fails.
cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  *count = settings().devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  if (device < 0 || device >= settings().devices) return report(cudaErrorInvalidDevice);
  device_in_use = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {};
  std::strcpy(properties->name,
              settings().is_mig ? "emulation on the CPU MIG 1g.1gb" : "emulation on the CPU");
  const int number = settings().first_device + device + 1;
  properties->uuid.bytes[15] = static_cast<char>(number);
  properties->pciBusID = settings().is_mig ? 1 : number;
  properties->major = 8;
  properties->multiProcessorCount = 2;
  properties->totalGlobalMem = settings().memory;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute != cudaDevAttrClockRate) fail("an attribute of the device that is not emulated");
  *value = 1'000'000;  // kHz
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = free_bytes();
  *total = settings().memory;
  return cudaSuccess;
}

// --- memory ----------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  ++counters().allocations;
  *address = is_to_fail("malloc") ? nullptr : allocate_device_memory(bytes);
  return report(*address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// Waits for all work, as the real one does.
cudaError_t cudaFree(void* address) {
  if (address == nullptr) return cudaSuccess;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();
  return report(free_device_memory(address) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  ++counters().allocations;
  *address = is_to_fail("pinned") ? nullptr : allocate_pinned_memory(bytes);
  return report(*address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFreeHost(void* address) {
  if (breaks_capture()) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();
  return report(free_pinned_memory(address) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  require_no_error_left();
  if (is_to_fail("copy")) break_device(cudaErrorLaunchFailure);
  const bool to_device = is_device(to), from_device = is_device(from);
  const cudaMemcpyKind is_kind = to_device && from_device ? cudaMemcpyDeviceToDevice
                                 : to_device              ? cudaMemcpyHostToDevice
                                 : from_device            ? cudaMemcpyDeviceToHost
                                                          : cudaMemcpyHostToHost;
  if (kind != is_kind || kind == cudaMemcpyHostToHost) return report(cudaErrorInvalidValue);
  if (stream != nullptr && stream->capture != nullptr && kind != cudaMemcpyDeviceToDevice) {
    fail("copies of host memory inside a graph are not emulated");
  }
  counters().uploads += kind == cudaMemcpyHostToDevice ? 1 : 0;
  enqueue(stream, kind == cudaMemcpyDeviceToDevice ? device_copy(to, from, bytes)
                                                   : host_copy(to, from, bytes));
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  require_no_error_left();
  const auto step = [=] {
    note_access(address, bytes, true);
    std::memset(address, value, bytes);
    return Progress::finished;
  };
  enqueue(stream, {.step = step, .what = "memset"});
  return cudaSuccess;
}

// --- launches --------------------------------------------------------------------------------

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
  if (const cudaError_t status = device_ready(); status != cudaSuccess) return status;
  require_no_error_left();
  if (const cudaError_t status = injected("kernel"); status != cudaSuccess) return report(status);
  if (is_to_fail("launch")) break_device(cudaErrorLaunchFailure);
  const Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return report(cudaErrorInvalidDeviceFunction);
  if (!is_possible(grid, block)) return report(cudaErrorInvalidConfiguration);
  if (shared_bytes > 0) fail("dynamic shared memory is not emulated");
  ++counters().launches;
  GridCall call{.function = function, .kernel = *kernel, .grid = grid, .block = block};
  for (std::size_t k = 0; k < kernel->sizes.size(); ++k) {
    const auto* value = static_cast<const std::byte*>(arguments[k]);
    call.arguments.emplace_back(value, value + kernel->sizes[k]);
  }
  const auto step = [call = std::move(call)]() mutable {
    run_grid(call);
    return Progress::finished;
  };
  enqueue(stream, {.step = step, .what = "kernel", .where = kernel->launched_at});
  return cudaSuccess;
}

}  // extern "C"
