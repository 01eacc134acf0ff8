#include "cuda_on_cpu/settings.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace ptb::cuda_on_cpu {
namespace {

std::string text_of(const char* variable, const std::string& otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// Takes the value of the variable, if it is there.
template <class Number>
void read(const char* variable, Number& value) {
  const std::string text = text_of(variable, "");
  if (!text.empty()) value = static_cast<Number>(std::stoull(text));
}

Settings from_environment() {
  Settings s;
  read("CUDA_ON_CPU_SEED", s.seed);
  read("CUDA_ON_CPU_DEVICES", s.devices);
  s.first_device = s.devices;
  read("CUDA_ON_CPU_BOUND", s.first_device);
  if (s.first_device == s.devices) {
    s.first_device = 0;
  } else {
    s.devices = 1;
  }
  read("CUDA_ON_CPU_DRIVER", s.driver);
  read("CUDA_ON_CPU_MEMORY", s.memory);
  read("CUDA_ON_CPU_MIG", s.is_mig);
  s.truncates_tf32 = text_of("CUDA_ON_CPU_TF32", "") == "truncate";
  s.nccl = PTB_DIST_EMULATED_NCCL;  // as the build found its header
  read("CUDA_ON_CPU_NCCL", s.nccl);
  s.is_counting = !text_of("CUDA_ON_CPU_COUNTS", "").empty();
  const std::string failing = text_of("CUDA_ON_CPU_FAIL", "");
  const std::size_t colon = failing.find(':');
  s.failing = failing.substr(0, colon);
  if (colon != std::string::npos) s.failing_at = std::stoll(failing.substr(colon + 1));
  return s;
}

std::string text_of(const Bytes& bytes) {
  return "{\"memory\": " + std::to_string(bytes.of_memory) +
         ", \"blocks\": " + std::to_string(bytes.of_blocks) + "}";
}

std::string text_of(const KernelCount& kernel) {
  return "{\"runs\": " + std::to_string(kernel.runs) + ", \"read\": " + text_of(kernel.read) +
         ", \"written\": " + text_of(kernel.written) + "}";
}

std::string text_of(const ProductCount& product) {
  return "{\"runs\": " + std::to_string(product.runs) +
         ", \"flops\": " + std::to_string(product.flops) +
         ", \"bytes\": " + std::to_string(product.bytes) + "}";
}

template <class Count>
std::string text_of(const std::map<std::string, Count>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += (text.empty() ? "{\"" : ", \"") + name + "\": " + text_of(count);
  }
  return text.empty() ? "{}" : text + "}";
}

// Written when the process ends, by whatever way calls destructors of statics.
struct CountersAtExit {
  Counters values;
  ~CountersAtExit() {
    const std::string path = text_of("CUDA_ON_CPU_COUNTS", "");
    if (path.empty()) return;
    std::ofstream(path) << "{\"launches\": " << values.launches
                        << ", \"graph_launches\": " << values.graph_launches
                        << ", \"captures\": " << values.captures
                        << ", \"allocations\": " << values.allocations
                        << ", \"host_waits\": " << values.host_waits
                        << ", \"drains\": " << values.drains << ", \"uploads\": " << values.uploads
                        << ", \"kernels\": " << values.kernels
                        << ", \"products\": " << values.products
                        << ", \"product_flops\": " << values.product_flops
                        << ", \"collectives\": " << values.collectives
                        << ", \"by_kernel\": " << text_of(values.by_kernel)
                        << ", \"by_product\": " << text_of(values.by_product) << "}\n";
  }
};

}  // namespace

const Settings& settings() {
  static const Settings instance = from_environment();
  return instance;
}

Counters& counters() {
  static CountersAtExit instance;
  return instance.values;
}

void trace(const std::string& line) {
  static const std::string path = text_of("CUDA_ON_CPU_TRACE", "");
  if (path.empty()) return;
  static std::ofstream file(path);
  file << line << std::endl;  // of a process that may be killed
}

bool is_to_fail(const char* kind) {
  if (settings().failing != kind) return false;
  static std::int64_t calls = 0;
  return ++calls == settings().failing_at;
}

void fail(const std::string& what) {
  const std::string line = "cuda_on_cpu: " + what +
                           "; CUDA_ON_CPU_SEED=" + std::to_string(settings().seed) +
                           " shows it again\n";
  std::fflush(stdout);
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) _exit(87);
  _exit(86);
}

Dice::Dice(std::uint64_t number)
    : state_((settings().seed << 32) ^ number), in_order_(settings().seed == 0) {
  next();
}

// SplitMix64 (Steele, Lea and Flood 2014): any state is a good one.
std::uint64_t Dice::next() {
  state_ += 0x9e3779b97f4a7c15;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::size_t Dice::below(std::size_t limit) { return in_order_ ? 0 : next() % limit; }

Service service() {
  constexpr std::array kKinds = {Service::eager, Service::starving, Service::uniform};
  return kKinds[settings().seed % kKinds.size()];
}

}  // namespace ptb::cuda_on_cpu
