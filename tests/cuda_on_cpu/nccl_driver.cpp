// What the emulated NCCL gives and what it refuses, between ranks of MPI with a device each.
//
//   CUDA_ON_CPU_DEVICES=3 mpirun -np 3 nccl_driver sums        closed forms; ends with 0
//   CUDA_ON_CPU_DEVICES=1 mpirun -np 2 nccl_driver one_device  refused as the real one does: 0
//   CUDA_ON_CPU_DEVICES=2 mpirun -np 2 nccl_driver too_early   a call before the start is over: 0
//   CUDA_ON_CPU_DEVICES=2 mpirun -np 2 nccl_driver counts      that differ: 86
//   CUDA_ON_CPU_DEVICES=2 mpirun -np 2 nccl_driver types       that differ: 86
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "ptb_dist/comm/session.hpp"

namespace {

int rank = 0, ranks = 1;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "rank %d: not so: %s\n", rank, what);
  _exit(1);
}
#define REQUIRE(condition) require(condition, #condition)

ncclResult_t settled(ncclComm_t comm, ncclResult_t status) {
  while (status == ncclInProgress) {
    REQUIRE(ncclCommGetAsyncError(comm, &status) == ncclSuccess);
  }
  return status;
}

ncclResult_t begin(ptb::Session& session, ncclComm_t* comm) {
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  REQUIRE(cudaSetDevice(rank % devices) == cudaSuccess);
  ncclUniqueId id{};
  if (rank == 0) REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  session.broadcast(std::as_writable_bytes(std::span(&id, 1)));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return ncclCommInitRankConfig(comm, ranks, id, rank, &config);
}

// Element k of rank r is 1 + r + k; the sum over P ranks is P·(1 + k) + P·(P - 1) / 2.
template <class T>
void check_sum(ncclComm_t comm, cudaStream_t stream, std::size_t count, ncclDataType_t type) {
  void *device = nullptr, *host = nullptr;
  const std::size_t bytes = (count + 1) * sizeof(T);
  REQUIRE(cudaMalloc(&device, bytes) == cudaSuccess);
  REQUIRE(cudaHostAlloc(&host, bytes, cudaHostAllocDefault) == cudaSuccess);
  T* const values = static_cast<T*>(host);
  for (std::size_t k = 0; k <= count; ++k) values[k] = static_cast<T>(1 + rank) + static_cast<T>(k);
  REQUIRE(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(settled(comm, ncclAllReduce(device, device, count, type, ncclSum, comm, stream)) ==
          ncclSuccess);
  REQUIRE(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  for (std::size_t k = 0; k < count; ++k) {
    const int sum = ranks * (1 + static_cast<int>(k)) + ranks * (ranks - 1) / 2;
    REQUIRE(values[k] == static_cast<T>(sum));
  }
  REQUIRE(values[count] == static_cast<T>(1 + rank) + static_cast<T>(count));  // nobody's
  REQUIRE(cudaFree(device) == cudaSuccess && cudaFreeHost(host) == cudaSuccess);
}

void run(ptb::Session& session, std::string_view mode) {
  ncclComm_t comm = nullptr;
  const ncclResult_t started = begin(session, &comm);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  void* memory = nullptr;
  REQUIRE(cudaMalloc(&memory, 64) == cudaSuccess);
  if (mode == "too_early") {
    REQUIRE(ncclAllReduce(memory, memory, 1, ncclFloat32, ncclSum, comm, stream) ==
            ncclInvalidArgument);
  }
  if (mode == "one_device") {
    REQUIRE(settled(comm, started) == ncclInvalidUsage);
    REQUIRE(ncclCommAbort(comm) == ncclSuccess);
    return;
  }
  REQUIRE(settled(comm, started) == ncclSuccess);
  if (mode == "counts" || mode == "types") {
    const std::size_t count = mode == "counts" && rank == 1 ? 3 : 2;
    const ncclDataType_t type = mode == "types" && rank == 1 ? ncclFloat64 : ncclFloat32;
    settled(comm, ncclAllReduce(memory, memory, count, type, ncclSum, comm, stream));
    cudaStreamSynchronize(stream);
    require(false, "ranks that do not agree are refused");
  }
  for (const std::size_t count : {0, 1, 7, 40000, 0, 100000}) {
    check_sum<float>(comm, stream, count, ncclFloat32);
    check_sum<double>(comm, stream, count, ncclFloat64);
  }
  REQUIRE(cudaFree(memory) == cudaSuccess);
  REQUIRE(settled(comm, ncclCommFinalize(comm)) == ncclSuccess);
  REQUIRE(ncclCommDestroy(comm) == ncclSuccess);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}

}  // namespace

int main(int argc, char** argv) {
  ptb::Session session(&argc, &argv);
  rank = session.rank();
  ranks = session.size();
  run(session, argc > 1 ? argv[1] : "sums");
}
