// The beginning and the end of MPI, and the check that the launcher and the library know each
// other.
#pragma once

namespace ptb {

// Initialises MPI with MPI_THREAD_MULTIPLE and errors that are returned. Error 2 for one process of
// a launch of several, 69 without threads; MPI is then finalised.
//
// Nothing finalises MPI when a later error unwinds: MPI_Finalize waits for the other ranks without
// a deadline, and they may be what the error is about. The process ends with the error's code, and
// the launcher ends the others.
void initialise_mpi(int* argc, char*** argv);

}  // namespace ptb
