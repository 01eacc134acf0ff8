#include "backend/cuda/device.hpp"

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include "backend/cuda/handles.hpp"
#include "backend/cuda/launch.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb::cuda {
namespace {

constexpr const char* kWithout = "use --backend cpu";

__global__ void do_nothing() {}

// "13.0" for 13000.
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Error missing(Complaint complaint) {
  complaint.where = "backend = cuda";
  return {ExitCode::missing, std::move(complaint)};
}

// Called first, because the status of other calls says less.
void require_driver() {
  int driver = 0, runtime = 0;
  check_machine(cudaDriverGetVersion(&driver));
  check_machine(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) {
    throw missing({.what = "there is no NVIDIA driver",
                   .why = "CUDA finds none on this host",
                   .remedy = std::string("install one that nvidia-smi accepts, or ") + kWithout});
  }
  if (driver / 1000 < runtime / 1000) {  // minor versions work together
    throw missing({.what = "the NVIDIA driver is too old",
                   .why = "it supports CUDA " + version_text(driver) + ", this program needs " +
                          version_text(runtime),
                   .remedy = std::string("update the driver, or ") + kWithout});
  }
}

int require_devices() {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) status = cudaErrorNoDevice;
  check_machine(status);
  return count;
}

// Whether CUDA_VISIBLE_DEVICES hides all devices.
bool none_is_wanted() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) return false;
  return *visible == '\0' || std::string_view(visible) == "-1";
}

// The hexadecimal digits of a number, with leading zeros.
std::string hexadecimal(unsigned value, int digits) {
  std::string text(static_cast<std::size_t>(digits), '0');
  for (; digits > 0; value /= 16) {
    text[static_cast<std::size_t>(--digits)] = "0123456789abcdef"[value % 16];
  }
  return text;
}

// In nvidia-smi's notation.
PhysicalDevice physical_device(const cudaDeviceProp& properties) {
  PhysicalDevice device{.name = properties.name, .uuid = "GPU"};
  for (int k = 0; k < 16; ++k) {
    if (k == 0 || k == 4 || k == 6 || k == 8 || k == 10) device.uuid += '-';
    device.uuid += hexadecimal(static_cast<unsigned char>(properties.uuid.bytes[k]), 2);
  }
  device.bus_id = hexadecimal(static_cast<unsigned>(properties.pciDomainID), 4) + ":" +
                  hexadecimal(static_cast<unsigned>(properties.pciBusID), 2) + ":" +
                  hexadecimal(static_cast<unsigned>(properties.pciDeviceID), 2) + ".0";
  device.memory = static_cast<std::int64_t>(properties.totalGlobalMem);
  return device;
}

Device describe(int index) {
  cudaDeviceProp properties{};
  int kilohertz = 0;
  check_machine(cudaGetDeviceProperties(&properties, index));
  check_machine(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, index));
  return {.index = index,
          .generation = properties.major,
          .variant = properties.minor,
          .cycles = 1e3 * kilohertz * properties.multiProcessorCount,
          .description = std::string(properties.name) + " (sm_" + std::to_string(properties.major) +
                         std::to_string(properties.minor) + ", " +
                         std::to_string(properties.multiProcessorCount) + " SMs)",
          .physical = physical_device(properties)};
}

}  // namespace

CudaLook look_for_cuda() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0 || none_is_wanted()) return {};
  try {
    require_driver();
    require_devices();
  } catch (const Error& error) {
    return {.why_not = error.lines().front()};
  }
  return {.is_usable = true};
}

double peak_flops(const Device& device, Precision precision) {
  struct Rate {  // operations of a multiprocessor per cycle
    int generation, variant;
    double fp32, tf32, bf16;
  };
  constexpr std::array kRates = {Rate{8, 0, 128, 1024, 2048}, Rate{9, 0, 256, 2048, 4096}};
  for (const Rate& rate : kRates) {
    if (rate.generation != device.generation || rate.variant != device.variant) continue;
    const double each = precision == Precision::fp32   ? rate.fp32
                        : precision == Precision::tf32 ? rate.tf32
                                                       : rate.bf16;
    return each * device.cycles;
  }
  return 0;
}

Device use_device(int host_rank) {
  require_driver();
  const int count = require_devices();
  Device device = describe(host_rank % count);
  check_machine(cudaSetDevice(device.index));
  const Stream stream = make_stream();
  launch(do_nothing, {1, 1, stream.get()});  // so that a missing kernel image shows here
  check_machine(cudaStreamSynchronize(stream.get()));
  return device;
}

}  // namespace ptb::cuda
