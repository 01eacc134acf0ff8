#include "backend/cpu/cpu_backend.hpp"

#include <fmt/format.h>

#include <cstring>
#include <new>

#include "backend/cpu/loops.hpp"
#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

constexpr std::align_val_t kAlignment{64};  // a cache line, and the widest vector

}  // namespace

CpuBackend::CpuBackend(int threads) : threads_(threads), products_(threads) {}

std::string CpuBackend::description() const {
  return fmt::format("{}, {} thread{} a rank", identity(), threads_, threads_ == 1 ? "" : "s");
}

std::string CpuBackend::identity() const {
  return fmt::format("cpu, fp32, loops {}, {}", loops::instruction_set(), Products::description());
}

// The recurrent weights are packed once for each number of rows that they are multiplied with, and
// once for the way back.
std::int64_t CpuBackend::own_bytes(const Extents& extents) const {
  const std::int64_t copies = std::ssize(extents.lanes) + 1;
  const std::int64_t kernel = extents.hidden * traits_of(extents.cell).gates * extents.hidden;
  return extents.layers * kernel * copies * static_cast<std::int64_t>(sizeof(float));
}

Tensor CpuBackend::allocate(ElementType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  void* memory = ::operator new(std::max<std::size_t>(bytes, 1), kAlignment, std::nothrow);
  if (memory == nullptr) {
    const std::string limits = limits_of_memory();
    throw Error(ExitCode::missing,
                {.what = "out of memory",
                 .where = fmt::format("a tensor {}", shape.text()),
                 .why = fmt::format("allocation of {} failed{}",
                                    bytes_text(static_cast<std::int64_t>(bytes)),
                                    limits.empty() ? "" : " with " + limits),
                 .remedy = fmt::format("{}use a smaller model, fewer lanes or more ranks",
                                       limits.empty() ? "" : "raise the limit, or ")});
  }
  std::memset(memory, 0, bytes);
  return {std::shared_ptr<std::byte>(static_cast<std::byte*>(memory),
                                     [](std::byte* p) { ::operator delete(p, kAlignment); }),
          type, shape};
}

void CpuBackend::upload(const Tensor& to, std::span<const std::byte> from) {
  require(to.bytes() == from.size(), "an upload has the tensor's size");
  if (!from.empty()) std::memcpy(to.raw(), from.data(), from.size());
}

void CpuBackend::download(const Tensor& from, std::span<std::byte> to) {
  require(from.bytes() == to.size(), "a download has the tensor's size");
  if (!to.empty()) std::memcpy(to.data(), from.raw(), to.size());
}

void CpuBackend::set_zero(const Tensor& tensor) {
  if (!tensor.empty()) std::memset(tensor.raw(), 0, tensor.bytes());
}

// Weights are packed where they are first used with their version (Products::multiply_packed).
void CpuBackend::prepare(const Weights&) {}

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  if (options.precision != "auto" && options.precision != "fp32") {
    throw Error(ExitCode::usage, {.what = "the CPU backend does not have this precision",
                                  .where = fmt::format("precision = \"{}\"", options.precision),
                                  .why = "it computes in fp32",
                                  .remedy = "use --precision fp32"});
  }
  return std::make_unique<CpuBackend>(options.threads);
}

}  // namespace ptb
