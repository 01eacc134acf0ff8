// The OpenMP team of a rank is as large as was asked for, or there is an error: oneDNN deals its
// work to the threads that it asked for, and leaves undone what would be for those that are missing.
#pragma once

namespace ptb {

// Error 69 unless OpenMP gives the calling thread a team of so many.
void require_team(int threads);

// That error.
[[noreturn]] void refuse_team(int given, int asked);

}  // namespace ptb
