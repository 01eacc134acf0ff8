// ptb_dist checkpoint inspect|verify|diff: what a file contains, whether it is good, what differs.
#include <fmt/format.h>

#include "commands/commands.hpp"
#include "ptb_dist/io/checkpoint_text.hpp"

namespace ptb {
namespace {

void inspect(const std::string& path) {
  for (const std::string& line : description_of(CheckpointFile(path))) print_line(line);
}

void verify(const std::string& path) {
  const CheckpointFile file(path);
  print_line(fmt::format("{}: good, step {}, {} bytes, XXH3-128 {}", path,
                         file.info().progress.step, file.bytes(), file.digest()));
}

ExitCode diff(const std::string& path_a, const std::string& path_b) {
  const CheckpointFile a(path_a), b(path_b);
  if (a.digest() == b.digest() && a.bytes() == b.bytes()) {
    print_line("the files are equal, byte for byte");
    return ExitCode::done;
  }
  const std::vector<std::string> lines = differences_of(a, b);
  for (const std::string& line : lines) print_line(line);
  if (lines.empty()) print_line("equal contents, but not byte for byte");
  return ExitCode::different;
}

}  // namespace

int checkpoint_command(Session& session, const CommandLine& line) {
  ExitCode code = ExitCode::done;
  session.on_root([&] {
    const std::string& verb = line.files.front();
    if (verb == "diff") {
      code = diff(line.files[1], line.files[2]);
      return;
    }
    std::vector<Complaint> complaints;  // collected, so that files after a bad one are read, too
    for (std::size_t i = 1; i < line.files.size(); ++i) {
      try {
        verb == "verify" ? verify(line.files[i]) : inspect(line.files[i]);
      } catch (const Error& error) {
        code = error.code();
        for (const std::string& text : error.lines()) complaints.push_back({.what = text});
      }
    }
    if (!complaints.empty()) throw Error(code, std::move(complaints));
  });
  session.broadcast(code);
  return static_cast<int>(code);
}

}  // namespace ptb
