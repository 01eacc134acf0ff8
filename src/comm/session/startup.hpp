// The beginning and the end of MPI, and the check that the launcher and the library know each
// other.
#pragma once

namespace ptb {

// MPI is initialised as long as this lives, with MPI_THREAD_MULTIPLE and errors that are returned.
// Error 2 for one process of a launch of several, 69 without threads.
class MpiLibrary {
 public:
  MpiLibrary(int* argc, char*** argv);
  // Finalises, which waits for the other ranks.
  ~MpiLibrary();
  MpiLibrary(const MpiLibrary&) = delete;
  MpiLibrary& operator=(const MpiLibrary&) = delete;

  // What the destructor does, with the error that the destructor would not tell.
  void finalise();

 private:
  bool is_initialised_ = false;
};

}  // namespace ptb
