// The beginning of MPI, and the check that the launcher and the library know each other.
#pragma once

namespace ptb {

// MPI_Init_thread with MPI_THREAD_MULTIPLE; from then on MPI's errors are returned. MPI is
// finalised again where it throws: Error 2 for one process of a launch of several, 69 without
// threads.
void initialise_mpi(int* argc, char*** argv);

}  // namespace ptb
