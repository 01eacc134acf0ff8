#include <system_error>

#include "commands/commands.hpp"
#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {

void print_text(const std::string& text) {
  const int failure = console::print(text);
  if (failure == 0) return;
  throw Error(ExitCode::io, {.what = "cannot write",
                             .where = "standard output",
                             .why = std::generic_category().message(failure)});
}

void print_line(const std::string& line) { print_text(one_line(line) + '\n'); }

}  // namespace ptb
