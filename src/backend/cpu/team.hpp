// The OpenMP team of a rank is as large as was asked for, or there is an error: oneDNN deals its
// work to as many threads as it asked for, and the part of a thread that is missing is never done.
#pragma once

namespace ptb {

// Error 69 unless OpenMP gives the calling thread a team of so many.
void require_team(int threads);

// That error.
[[noreturn]] void refuse_team(int given, int asked);

}  // namespace ptb
