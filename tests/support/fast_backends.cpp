#include "support/fast_backends.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "support/portable_products.hpp"

namespace ptb::test {
namespace {

constexpr double kTf32 = 0x1p-11;  // 10 bits of mantissa behind the point
constexpr double kBf16 = 0x1p-8;   // 7 bits

std::vector<FastBackend> all() {
  std::vector<FastBackend> list;
  for (const auto& [precision, input_error] : {std::pair{"fp32", 0.0}, std::pair{"bf16", kBf16}}) {
    for (const int threads : {1, 2}) {
      list.push_back({.name = fmt::format("cpu, {}, threads {}", precision, threads),
                      .options = {.name = "cpu", .precision = precision, .threads = threads},
                      .input_error = input_error});
    }
  }
  list.push_back({.name = "cpu, portable bf16",
                  .options = {.name = "cpu", .precision = "bf16", .threads = 2},
                  .input_error = kBf16,
                  .is_portable = true});
  for (const auto& [precision, input_error] :
       {std::pair{"fp32", 0.0}, std::pair{"tf32", kTf32}, std::pair{"bf16", kBf16}}) {
    list.push_back({.name = fmt::format("cuda, {}", precision),
                    .options = {.name = "cuda", .precision = precision},
                    .input_error = input_error});
  }
  return list;
}

bool is_there(const FastBackend& backend) {
  try {
    backend.make();
    return true;
  } catch (const Error& error) {
    if (error.code() != ExitCode::missing) throw;
    return false;
  }
}

// Tensor cores may cut off an input's lower bits, where the emulation rounds: twice the error.
double input_error_on_this_device(const FastBackend& backend) {
  static const bool is_emulated =
      backend.make()->identity().find("emulation on the CPU") != std::string::npos;
  return (is_emulated ? 1 : 2) * backend.input_error;
}

}  // namespace

std::unique_ptr<Backend> FastBackend::make() const {
  return is_portable ? make_portable_backend(options) : make_backend(options);
}

std::vector<FastBackend> fast_backends() {
  const char* variable = std::getenv("PTB_DIST_TEST_BACKENDS");
  const std::string wanted = variable == nullptr ? "" : fmt::format(",{},", variable);
  std::vector<FastBackend> list;
  for (const FastBackend& backend : all()) {
    const bool is_wanted =
        wanted.find(fmt::format(",{},", backend.options.name)) != std::string::npos;
    const bool may_be_missing =
        wanted.empty() || (backend.options.name == "cpu" && backend.options.precision == "bf16");
    if (!wanted.empty() && !is_wanted) continue;
    if (!may_be_missing || is_there(backend)) list.push_back(backend);
  }
  for (FastBackend& backend : list) {
    if (backend.options.precision == "tf32") {
      backend.input_error = input_error_on_this_device(backend);
    }
  }
  require(!list.empty(), "PTB_DIST_TEST_BACKENDS names backends that there are");
  return list;
}

}  // namespace ptb::test
