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

Precision precision_of(const std::string& name) {
  if (name == "fp32" || name == "auto") return Precision::fp32;
  if (name == "bf16") return Precision::bf16;
  throw Error(ExitCode::usage, {.what = "the CPU backend does not have this precision",
                                .where = fmt::format("precision = \"{}\"", name),
                                .remedy = "use --precision fp32 or bf16"});
}

}  // namespace

CpuBackend::CpuBackend(int threads, std::unique_ptr<Products> products)
    : threads_(threads),
      products_(std::move(products)),
      hidden_(products_->precision()),
      outputs_(products_->precision()),
      d_gates_(products_->precision()),
      d_shares_(products_->precision()),
      d_logits_(products_->precision()) {}

std::string CpuBackend::description() const {
  return fmt::format("{}, {} thread{} a rank", identity(), threads_, threads_ == 1 ? "" : "s");
}

std::string CpuBackend::identity() const {
  return fmt::format("cpu, {}, loops {}, {}", products_->arithmetic(), loops::instruction_set(),
                     products_->library());
}

// The copies that Products make, and in bf16 the operands that are converted here: hidden states,
// dropped outputs, d_z, the gradient of a recurrent share, d_logits.
std::int64_t CpuBackend::own_bytes(const Extents& e) const {
  const std::int64_t bytes = products_->own_bytes(e);
  if (products_->precision() == Precision::fp32) return bytes;
  const CellTraits cell = traits_of(e.cell);
  const std::int64_t gates = (cell.has_recurrent_share ? 2 : 1) * cell.gates * e.hidden;
  const std::int64_t columns = 2 * padded(e.hidden) + padded(gates) + padded(e.vocab);
  return bytes + e.positions * columns * std::int64_t{sizeof(Bf16)};
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

Bf16* CpuBackend::Operands::get(std::int64_t rows, std::int64_t columns) {
  return precision_ == Precision::fp32 ? nullptr : values_.get(rows * padded(columns));
}

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  const int threads = options.threads;
  return std::make_unique<CpuBackend>(threads,
                                      make_products(precision_of(options.precision), threads));
}

}  // namespace ptb
