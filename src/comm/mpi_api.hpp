// The only file that includes <mpi.h>, and what its C calls need to be safe.
#pragma once

// The C++ bindings that Open MPI 4 and MPICH still carry would want a second library to link.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <source_location>
#include <string>

#include "ptb_dist/backend/tensor.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb::mpi {

// Error 70 with the library's words and the caller's place, unless `code` is MPI_SUCCESS.
inline void check(int code, std::source_location where = std::source_location::current()) {
  if (code == MPI_SUCCESS) return;
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  text.resize(static_cast<std::size_t>(length));
  const std::string file = std::filesystem::path(where.file_name()).filename().string();
  throw Error(ExitCode::internal,
              {.what = "an MPI call failed",
               .where = fmt::format("{}:{}", file, where.line()),
               .why = text.empty() ? fmt::format("MPI error {}", code) : text,
               .remedy = "a rank or its network was lost; start again from the last state saved"});
}

// Owns a communicator, whose errors are returned instead of fatal. To free it is collective.
class Comm {
 public:
  explicit Comm(MPI_Comm comm) : comm_(comm) { MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN); }
  ~Comm() {
    if (comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
  }
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  MPI_Comm get() const { return comm_; }
  int rank() const {
    int rank = 0;
    check(MPI_Comm_rank(comm_, &rank));
    return rank;
  }
  int size() const {
    int size = 1;
    check(MPI_Comm_size(comm_, &size));
    return size;
  }
  // What the destructor does, with the error that the destructor would not tell.
  void free() { check(MPI_Comm_free(&comm_)); }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

inline MPI_Datatype datatype(ElementType type) {
  require(type == ElementType::f32 || type == ElementType::f64, "sums are of f32 or f64");
  return type == ElementType::f32 ? MPI_FLOAT : MPI_DOUBLE;
}

inline bool is_over(MPI_Request& request) {
  int flag = 0;
  check(MPI_Test(&request, &flag, MPI_STATUS_IGNORE));
  return flag != 0;
}

// Calls f(first, count) for each piece of `bytes` bytes that one MPI call carries: its count is far
// below INT_MAX, and pieces begin at a multiple of every element's size.
template <class F>
void for_each_piece(std::size_t bytes, F f) {
  constexpr std::size_t kPieceBytes = std::size_t{64} << 20;
  for (std::size_t first = 0; first < bytes; first += kPieceBytes) {
    f(first, static_cast<int>(std::min(kPieceBytes, bytes - first)));
  }
}

}  // namespace ptb::mpi
