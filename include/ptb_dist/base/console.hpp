// Standard output and standard error, written without ever waiting for a reader.
//
// A terminal under Ctrl-S or a pipe that nobody reads may refuse text. Refused text is kept in
// memory and offered again with the next write. A reader that has gone or a full disk is no error
// here, because log.txt has every line. The results of a command are nowhere else: they are kept
// until the end of the process, which waits for their reader unless another rank waits for this
// process. Any thread may call these functions; they throw nothing.
#pragma once

#include <chrono>
#include <string_view>

namespace ptb::console {

enum class Stream { out, error };

// Opens /dev/null as each of the descriptors 0, 1 and 2 that is closed. Otherwise the next file or
// pipe that a library opens gets that number and receives what is printed. Called before main.
void fill_gaps() noexcept;

// Text that must be seen, in whole lines. While more than 1 MiB waits for a reader it is dropped; a
// later line says how many texts were.
void write(Stream stream, std::string_view text) noexcept;
// Text of the moment, such as a progress bar. While other text waits: false, and writes nothing.
bool write_if_idle(Stream stream, std::string_view text) noexcept;
// A result, on standard output; never dropped. Returns the errno value with which the system
// refused it; 0 if it is written or kept, or if the reader has gone.
int print(std::string_view text) noexcept;
// Called at the end of the process: waits for the readers, but not longer than `patience`.
void flush(std::chrono::milliseconds patience) noexcept;
// The same, but without limit for the readers of results, until a stop is requested (stop.hpp).
void finish(std::chrono::milliseconds patience) noexcept;

}  // namespace ptb::console
