#include "ptb_dist/run/leftovers.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <map>
#include <system_error>

#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

// From the path of a candidate to its bytes.
using Candidates = std::map<std::string, std::int64_t>;

// Entries of `folder` with names that begin with this, which are this user's and old enough.
Candidates old_entries(const fs::path& folder, const std::string& prefix,
                       const LeftoverPlaces& places) {
  Candidates found;
  std::error_code failure;
  const auto now = std::chrono::system_clock::now();
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (!entry->path().filename().string().starts_with(prefix)) continue;
    struct stat status = {};
    if (::lstat(entry->path().c_str(), &status) != 0 || status.st_uid != places.user) continue;
    const auto changed = std::chrono::system_clock::from_time_t(status.st_mtime);
    if (now - changed >= places.age) found.emplace(entry->path(), status.st_size);
  }
  return found;
}

// Drops the candidates that contain `file`, a path that a process has open or mapped, or are it.
void keep_what_is_used(const std::string& file, Candidates& candidates) {
  std::erase_if(candidates, [&file](const auto& candidate) {
    const std::string& path = candidate.first;
    return file.starts_with(path) && (file.size() == path.size() || file[path.size()] == '/');
  });
}

bool is_number(const std::string& text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c); });
}

void look_into(const fs::path& process, Candidates& candidates) {
  std::ifstream maps(process / "maps");
  for (std::string line; std::getline(maps, line);) {
    if (const std::size_t path = line.find('/'); path != std::string::npos) {
      keep_what_is_used(line.substr(path), candidates);
    }
  }
  std::error_code failure;
  for (fs::directory_iterator entry(process / "fd", failure), end; !failure && entry != end;
       entry.increment(failure)) {
    std::error_code gone;
    keep_what_is_used(fs::read_symlink(entry->path(), gone).string(), candidates);
  }
}

// Drops the candidates that a process uses. Processes of other users cannot open these files. A
// process of this user that it may not inspect is a program of the system, not a rank: it counts as
// one that uses nothing.
void keep_what_is_used(const LeftoverPlaces& places, Candidates& candidates) {
  if (!fs::exists(places.processes / "self/maps")) return candidates.clear();
  std::error_code failure;
  for (fs::directory_iterator entry(places.processes, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (candidates.empty()) return;
    if (is_number(entry->path().filename())) look_into(entry->path(), candidates);
  }
  if (failure) candidates.clear();
}

// Whether a session folder belongs to a daemon, which maps files in it as long as it lives, or to
// an mpirun that has ended. False for ranks that Slurm has started: they may have no file open.
bool may_be_looked_at(const fs::path& folder, const LeftoverPlaces& places) {
  std::error_code failure;
  const std::string name = folder.filename();
  if (name.starts_with("pid.")) return !fs::exists(places.processes / name.substr(4), failure);
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (entry->path().filename().string().starts_with("pmix_dstor_")) return true;
  }
  return false;
}

LeftoverPlaces places_of_this_host(const std::string& host) {
  LeftoverPlaces places;
  const char* folder = "/tmp";
  for (const char* name : {"TMP", "TEMP", "TMPDIR"}) {  // the last one that is set counts
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') folder = value;
  }
  places.user = ::geteuid();
  places.host = host;
  places.sessions = fs::path(folder) / fmt::format("ompi.{}.{}", places.host, places.user);
  return places;
}

}  // namespace

Leftovers remove_leftovers(const LeftoverPlaces& places) {
  Leftovers removed;
  try {
    Candidates segments = old_entries(
        places.memory, fmt::format("vader_segment.{}.{}.", places.host, places.user), places);
    Candidates sessions = old_entries(places.sessions, "", places);
    std::erase_if(sessions,
                  [&](const auto& session) { return !may_be_looked_at(session.first, places); });
    Candidates all = segments;
    all.insert(sessions.begin(), sessions.end());
    if (all.empty()) return removed;  // the usual case: no other process is inspected
    keep_what_is_used(places, all);
    for (const auto& [path, bytes] : all) {
      std::error_code failure;
      if (segments.contains(path)) {
        if (!fs::remove(path, failure)) continue;
        ++removed.segments;
        removed.segment_bytes += bytes;
      } else if (fs::remove_all(path, failure); !failure) {
        ++removed.sessions;
      }
    }
  } catch (const std::exception&) {  // no memory, or a file system's error: the rest stays
  }
  return removed;
}

std::vector<std::string> remove_leftovers(Session& session) {
  std::string mine;
  if (session.host_rank() == 0) {
    const Leftovers removed = remove_leftovers(places_of_this_host(session.host()));
    if (removed.segments + removed.sessions > 0) {
      mine = fmt::format(
          "Removed what jobs that were killed have left on {}: {} segment{} of shared memory ({}), "
          "{} session folder{}",
          session.host(), removed.segments, removed.segments == 1 ? "" : "s",
          bytes_text(removed.segment_bytes), removed.sessions, removed.sessions == 1 ? "" : "s");
    }
  }
  std::vector<std::string> lines = session.gather(mine);
  std::erase(lines, "");
  return lines;
}

}  // namespace ptb
