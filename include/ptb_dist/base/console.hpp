// Standard output and standard error, written without ever waiting for a reader.
//
// What a terminal under Ctrl-S or a pipe that nobody reads does not take is kept in memory and
// offered again with whatever is said next. A reader that is gone, and a disk that is full, are no
// error here: log.txt has every line. The results of a command are in no other place, so they are
// kept until the end of the process, which waits for their reader while no other rank waits for it.
// All functions are of any thread, and throw nothing.
#pragma once

#include <chrono>
#include <string_view>

namespace ptb::console {

enum class Stream { out, error };

// Descriptors 0, 1 and 2 that are closed become /dev/null. Else the next file or pipe that a
// library opens has that number, and what is printed goes into it. Called before main.
void fill_gaps() noexcept;

// Text that must be seen, in whole lines. Where more than 1 MiB waits for a reader it is left out,
// and a line tells later of how many texts.
void write(Stream stream, std::string_view text) noexcept;
// Text of the moment, as a progress bar's: false, and nothing is written, while other text waits.
bool write_if_idle(Stream stream, std::string_view text) noexcept;
// A result, on standard output. None is left out. Returns the errno value with which the system
// refused it; 0 if it is written or kept, or the reader is gone.
int print(std::string_view text) noexcept;
// The end of the process is near: waits for the readers, but not longer than this.
void flush(std::chrono::milliseconds patience) noexcept;
// The same, but for results without an end, unless a stop is requested (stop.hpp).
void finish(std::chrono::milliseconds patience) noexcept;

}  // namespace ptb::console
