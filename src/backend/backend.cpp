#include "ptb_dist/backend/backend.hpp"

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cuda/door.hpp"
#include "ptb_dist/backend/choice.hpp"

namespace ptb {

Arrival Backend::begin_download(const Tensor& from) {
  const std::shared_ptr<std::byte[]> values(new std::byte[from.bytes()]);
  download(from, {values.get(), from.bytes()});
  return {.values = {values, values.get()}, .event = nullptr};
}

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const bool is_automatic = options.name == "auto";
  if (options.name == "cuda" || (is_automatic && look_for_cuda().is_usable)) {
    return make_cuda_backend(options);
  }
  return make_cpu_backend(options);
}

std::string why_auto_is_cpu() { return look_for_cuda().why_not; }

void upload_reals(Backend& backend, const Tensor& to, std::span<const float> from) {
  require(to.elements() == std::ssize(from), "as many values as the tensor has elements");
  if (to.type() == ElementType::f32) {
    backend.upload(to, std::as_bytes(from));
    return;
  }
  require(to.type() == ElementType::f64, "a Real tensor is f32 or f64");
  const std::vector<double> wide(from.begin(), from.end());
  backend.upload(to, std::as_bytes(std::span(wide)));
}

}  // namespace ptb
