// Standard output and standard error, written without ever waiting for a reader.
//
// What a terminal under Ctrl-S or a pipe that nobody reads does not take is kept in memory and
// offered again with whatever is said next. A reader that is gone, and a disk that is full, are no
// error here: log.txt has every line. The results of commands are written by print() instead, which
// waits. All functions are of any thread, and throw nothing.
#pragma once

#include <chrono>
#include <string_view>

namespace ptb::console {

enum class Stream { out, error };

// Text that must be seen, in whole lines. Where more than 1 MiB waits for a reader it is left out,
// and a line tells later of how many texts.
void write(Stream stream, std::string_view text) noexcept;
// Text of the moment, as a progress bar's: false, and nothing is written, while other text waits.
bool write_if_idle(Stream stream, std::string_view text) noexcept;
// The end of the process is near: waits for the readers, but not longer than this.
void flush(std::chrono::milliseconds patience) noexcept;

}  // namespace ptb::console
