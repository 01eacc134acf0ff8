// The only file that includes <mpi.h>, and what its C calls need to be safe.
#pragma once

// The C++ bindings that Open MPI 4 and MPICH still carry would want a second library to link.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <fmt/format.h>
#include <mpi.h>

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

inline MPI_Datatype datatype(ElementType type) {
  require(type == ElementType::f32 || type == ElementType::f64, "sums are of f32 or f64");
  return type == ElementType::f32 ? MPI_FLOAT : MPI_DOUBLE;
}

inline bool is_over(MPI_Request& request) {
  int flag = 0;
  check(MPI_Test(&request, &flag, MPI_STATUS_IGNORE));
  return flag != 0;
}

}  // namespace ptb::mpi
