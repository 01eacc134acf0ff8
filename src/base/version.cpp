// PTB_DIST_COMPILER, PTB_DIST_LIBRARIES and git_revision.hpp come from cmake/version.cmake.
#include "ptb_dist/base/version.hpp"

#include <fmt/format.h>

#include "git_revision.hpp"

namespace ptb {

std::string git_revision() { return kGitRevision; }

std::string compiler() { return PTB_DIST_COMPILER; }

std::string build_information() {
  return fmt::format("git revision: {}\ncompiler: {}\n{}", git_revision(), compiler(),
                     PTB_DIST_LIBRARIES);
}

}  // namespace ptb
