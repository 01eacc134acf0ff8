#include "io/files/whole_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/files/file.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {

namespace fs = std::filesystem;

WholeFile::WholeFile(const fs::path& path, Subject subject)
    : path_(path), subject_(std::move(subject)), file_(open_regular(path)) {
  if (file_.error_number != 0) throw io_error(subject_.what, path, file_.error_number);
  if (!file_.refusal.empty()) throw subject_.error(file_.refusal);
}

std::vector<std::byte> WholeFile::head(std::size_t count) const {
  if (::lseek(file_.descriptor.get(), 0, SEEK_SET) != 0) {
    throw io_error(subject_.what, path_, errno);
  }
  std::vector<std::byte> result(std::min(count, static_cast<std::size_t>(file_.bytes)));
  const std::int64_t got =
      read_all(file_.descriptor, {reinterpret_cast<char*>(result.data()), result.size()});
  if (got < 0) throw io_error(subject_.what, path_, errno);
  if (static_cast<std::size_t>(got) < result.size()) {
    throw subject_.error("became shorter while it was being read");
  }
  return result;
}

std::vector<std::byte> WholeFile::all() const {
  // A file with holes takes no disk, but here it would take memory for its whole length.
  const std::int64_t memory =
      std::int64_t{::sysconf(_SC_PHYS_PAGES)} * std::int64_t{::sysconf(_SC_PAGESIZE)};
  if (file_.bytes > memory) {
    throw Subject{.code = ExitCode::missing,
                  .what = subject_.what,
                  .where = subject_.where,
                  .remedy = "use a machine with more memory"}
        .error(fmt::format("has {}, the memory of this machine {}", bytes_text(file_.bytes),
                           bytes_text(memory)));
  }
  return head(static_cast<std::size_t>(file_.bytes));
}

}  // namespace ptb
