#include <algorithm>

#include "backend/cpu/cpu_backend.hpp"

namespace ptb {

void CpuBackend::load_window(const WindowLoad& op) {
  const Tensor from = op.table[step_.window];
  std::copy_n(from.data<std::int32_t>(), from.elements(), op.to.data<std::int32_t>());
}

}  // namespace ptb
