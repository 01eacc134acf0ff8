#include "backend/cuda/check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb::cuda {
namespace {

// "stack.cu:91", without the folders of the machine that built the program.
std::string place(const std::source_location& where) {
  const std::string_view path = where.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), where.line());
}

void warn(const char* status, const std::source_location& where) {
  console::write(console::Stream::error,
                 fmt::format("ptb_dist: warning: {}: {}\n", place(where), status));
}

std::string text_of(cudaError_t status) {
  return fmt::format("{} ({}): {}", cudaGetErrorName(status), static_cast<int>(status),
                     cudaGetErrorString(status));
}

// A status that is no defect of this program: its meaning, and what to do about it.
struct Known {
  cudaError_t status;
  const char* what;
  const char* remedy;
  ExitCode code = ExitCode::missing;
};

constexpr const char* kUnusable = "the GPU cannot be used";
constexpr const char* kInUse = "the GPU is in use";
constexpr const char* kNoService = "CUDA's multi-process service (MPS) does not answer";
constexpr const char* kDefect = "the GPU has a defect";
constexpr const char* kBuildOrUpdate =
    "update the driver, or build with -DCMAKE_CUDA_ARCHITECTURES=<its compute capability, as 90>";
constexpr const char* kUpdate = "update the driver, or use --backend cpu";
constexpr const char* kLook = "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use --backend cpu";
constexpr const char* kGiveEachItsOwn =
    "nvidia-smi shows which process has it, and whether it allows one process only (compute mode): "
    "start one rank for each GPU, wait, or use --backend cpu";
constexpr const char* kMendMps =
    "start nvidia-cuda-mps-control on this host, unset CUDA_MPS_PIPE_DIRECTORY, or use --backend "
    "cpu";
constexpr const char* kLeaveOut =
    "look for Xid in this host's dmesg, and at nvidia-smi -q; do not use this host";

constexpr std::array kKnown = {
    Known{cudaErrorMemoryAllocation, "out of memory on the GPU's side",
          "use a smaller model, fewer lanes or more GPUs; nvidia-smi shows what else uses it"},
    Known{cudaErrorInitializationError, kUnusable,
          "install a driver that nvidia-smi accepts, or use --backend cpu"},
    Known{cudaErrorStubLibrary, "libcuda.so is the toolkit's stub, not the driver's",
          "take the folder \"stubs\" out of LD_LIBRARY_PATH"},
    Known{cudaErrorInsufficientDriver, "the NVIDIA driver is too old", kUpdate},
    Known{cudaErrorCallRequiresNewerDriver, "the NVIDIA driver is too old", kUpdate},
    Known{cudaErrorDevicesUnavailable, kInUse, kGiveEachItsOwn},
    Known{cudaErrorDeviceAlreadyInUse, kInUse, kGiveEachItsOwn},
    Known{cudaErrorNoDevice, "there is no GPU", kLook},
    Known{cudaErrorInvalidDevice, kUnusable, kLook},
    Known{cudaErrorDeviceNotLicensed, "the virtual GPU has no licence",
          "ask the administrator of this host, or use --backend cpu"},
    Known{cudaErrorNoKernelImageForDevice, "this program has no code for this GPU's architecture",
          "build with -DCMAKE_CUDA_ARCHITECTURES=<its compute capability, as 90>"},
    Known{cudaErrorUnsupportedPtxVersion, "this driver cannot translate this program's code",
          kBuildOrUpdate},
    Known{cudaErrorJitCompilerNotFound, "the driver's compiler (ptxjitcompiler) is missing",
          kBuildOrUpdate},
    Known{cudaErrorJitCompilationDisabled, "the driver's compiler is switched off",
          "unset CUDA_DISABLE_PTX_JIT"},
    Known{
        cudaErrorOperatingSystem, "this process may not use the GPU",
        "check who may open /dev/nvidia*, and in a container whether it has these devices, or use "
        "--backend cpu"},
    Known{cudaErrorSystemNotReady, "this host's GPUs are not ready",
          "a service does not run (nvidia-fabricmanager, if NVSwitch connects the GPUs): ask the "
          "administrator of this host, use another host, or use --backend cpu"},
    Known{cudaErrorSystemDriverMismatch, "the NVIDIA driver's parts are of different versions",
          "restart the host after an update; in a container, use the host's libcuda; or "
          "use --backend cpu"},
    Known{cudaErrorCompatNotSupportedOnDevice,
          "this GPU does not work with the libraries for a newer driver",
          "take the folder \"compat\" out of LD_LIBRARY_PATH, or update the driver"},
    Known{cudaErrorMpsConnectionFailed, kNoService, kMendMps},
    Known{cudaErrorMpsRpcFailure, kNoService, kMendMps},
    Known{cudaErrorMpsServerNotReady, kNoService, kMendMps},
    Known{cudaErrorMpsMaxClientsReached, kInUse, kGiveEachItsOwn},
    Known{cudaErrorMpsMaxConnectionsReached, kInUse, kGiveEachItsOwn},
    // 70: the defect may pass, and a run that is started again may get another host.
    Known{cudaErrorECCUncorrectable, kDefect, kLeaveOut, ExitCode::internal},
    Known{cudaErrorNvlinkUncorrectable, kDefect, kLeaveOut, ExitCode::internal},
    Known{cudaErrorHardwareStackError, kDefect, kLeaveOut, ExitCode::internal}};

Error error_of(const Known& known, const std::string& where) {
  return {known.code, Complaint{.what = known.what,
                                .where = where,
                                .why = text_of(known.status),
                                .remedy = known.remedy}};
}

// Null if the status is no fault of the machine.
const Known* find_known(cudaError_t status) {
  const auto found = std::ranges::find(kKnown, status, &Known::status);
  return found == kKnown.end() ? nullptr : &*found;
}

Error broken(const char* what, const std::string& where, const std::string& why) {
  return {ExitCode::internal,
          Complaint{
              .what = what,
              .where = where,
              .why = why,
              .remedy = "an earlier kernel may be the cause: CUDA_LAUNCH_BLOCKING=1 shows which"}};
}

}  // namespace

void check(cudaError_t status, std::source_location where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears it: else the next check would report it again
  if (const Known* known = find_known(status)) throw error_of(*known, place(where));
  throw broken("a CUDA call failed", place(where), text_of(status));
}

void check_machine(cudaError_t status, std::source_location where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  Known known = {
      .status = status,
      .what = kUnusable,
      .remedy = "look at nvidia-smi, ask this host's administrator, or use --backend cpu"};
  if (const Known* found = find_known(status)) known = *found;
  known.code = ExitCode::missing;
  throw error_of(known, place(where));
}

void check(cublasStatus_t status, std::source_location where) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) {
    throw error_of(*find_known(cudaErrorMemoryAllocation), place(where));
  }
  throw broken("a cuBLAS call failed", place(where), cublasGetStatusName(status));
}

void log_failure(cudaError_t status, std::source_location where) noexcept {
  if (status == cudaSuccess) return;
  warn(cudaGetErrorName(status), where);
}

void log_failure(cublasStatus_t status, std::source_location where) noexcept {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  warn(cublasGetStatusName(status), where);
}

}  // namespace ptb::cuda
