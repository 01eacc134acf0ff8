#include "io/run_directory/terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "ptb_dist/base/file.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool is_terminal(const fs::path& path) {
  std::error_code failure;
  if (!fs::is_character_file(path, failure)) return false;  // opening a pipe would keep it open
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  return file.is_open() && ::isatty(file.get()) != 0;
}

// mpirun makes a terminal for the standard output of each rank, even if its own is no terminal, and
// a pipe for standard error. It copies what comes byte by byte, and adds tags if asked to.
bool is_started_at_a_terminal() {
  constexpr std::array<std::string_view, 4> kLaunchers = {"mpirun\n", "mpiexec\n", "orterun\n",
                                                          "prterun\n"};
  const fs::path launcher = fmt::format("/proc/{}", ::getppid());
  if (std::ranges::count(kLaunchers, text_of(launcher / "comm")) == 0) return false;
  // --tag-output and similar options; they may also come from Open MPI's variables and files.
  const std::string options = text_of(launcher / "cmdline");
  for (const char* option : {"-output", "-xml", "-xterm"}) {
    if (options.find(option) != std::string::npos) return false;
  }
  for (const char* name : {"OMPI_MCA_orte_tag_output", "OMPI_MCA_orte_timestamp_output",
                           "OMPI_MCA_orte_xml_output", "OMPI_MCA_orte_output_filename"}) {
    if (std::getenv(name) != nullptr) return false;
  }
  return is_terminal(launcher / "fd/1") && is_terminal(launcher / "fd/2");
}

}  // namespace

bool is_at_a_terminal() {
  const char* const kind = std::getenv("TERM");
  if (kind == nullptr || std::string_view(kind) == "dumb") return false;
  return ::isatty(STDOUT_FILENO) != 0 &&
         (::isatty(STDERR_FILENO) != 0 || is_started_at_a_terminal());
}

std::size_t columns_of_output() {
  winsize size{};
  const bool is_told = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_told ? size.ws_col : 80;
}

}  // namespace ptb
