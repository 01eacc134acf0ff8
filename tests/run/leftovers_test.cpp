// Which segments and session folders are removed, and which are somebody's.
#include "ptb_dist/run/leftovers.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "io/scratch.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

struct Host {
  Host() {
    places.memory = scratch / "shm";
    places.sessions = scratch / "ompi.node1.7";
    places.host = "node1";
    places.user = ::geteuid();
    fs::create_directories(places.memory);
    fs::create_directories(places.sessions);
  }
  // As old as the rest of a job that was killed.
  fs::path age(const fs::path& path) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::minutes(5));
    return path;
  }
  fs::path segment(const std::string& name, std::size_t bytes = 4096) {
    put(places.memory / name, std::string(bytes, '.'));
    return age(places.memory / name);
  }
  std::string segment_name(const std::string& job) {
    return "vader_segment.node1." + std::to_string(places.user) + "." + job;
  }
  fs::path session(const std::string& name) {
    fs::create_directories(places.sessions / name / "pmix_dstor_ds12_1");
    put(places.sessions / name / "pmix_dstor_ds12_1/smseg-1", "shared");
    return age(places.sessions / name);
  }

  Scratch scratch;
  LeftoverPlaces places;
};

const std::string kNoProcess = "pid.4194400";  // above the most that Linux counts to

}  // namespace

BOOST_AUTO_TEST_SUITE(leftovers)

BOOST_AUTO_TEST_CASE(what_a_killed_job_has_left_is_removed) {
  Host host;
  host.segment(host.segment_name("3f0001.0"));
  host.segment(host.segment_name("3f0001.1"), 100);
  host.session(kNoProcess);
  host.session("jf.20925");
  const Leftovers removed = remove_leftovers(host.places);
  BOOST_TEST(removed.segments == 2);
  BOOST_TEST(removed.segment_bytes == 4196);
  BOOST_TEST(removed.sessions == 2);
  BOOST_TEST(fs::is_empty(host.places.memory));
  BOOST_TEST(fs::is_empty(host.places.sessions));
  BOOST_TEST(remove_leftovers(host.places).segments == 0);
}

BOOST_AUTO_TEST_CASE(what_is_young_or_of_others_stays) {
  Host host;
  const fs::path young = host.segment(host.segment_name("3f0001.0"));
  fs::last_write_time(young, fs::file_time_type::clock::now());
  host.segment("vader_segment.node10." + std::to_string(host.places.user) + ".3f0001.0");
  host.segment("vader_segment.node1.1" + std::to_string(host.places.user) + ".3f0001.0");
  host.segment("sem.of_another_program");
  host.session("pid." + std::to_string(::getpid()));
  fs::create_directories(host.places.sessions / "jf.0/1/0");  // of ranks under srun
  host.age(host.places.sessions / "jf.0");
  const Leftovers removed = remove_leftovers(host.places);
  BOOST_TEST(removed.segments == 0);
  BOOST_TEST(removed.sessions == 0);
  LeftoverPlaces of_another_user = host.places;
  of_another_user.user += 1;
  host.segment("vader_segment.node1." + std::to_string(of_another_user.user) + ".3f0001.0");
  BOOST_TEST(remove_leftovers(of_another_user).segments == 0);  // its name says so, its owner not
}

BOOST_AUTO_TEST_CASE(what_a_process_has_mapped_or_open_stays) {
  Host host;
  const fs::path mapped = host.segment(host.segment_name("3f0001.0"));
  const fs::path open = host.segment(host.segment_name("3f0001.1"));
  host.segment(host.segment_name("3f0001.2"));
  const fs::path daemon = host.session("jf.20925");
  const auto descriptor_of = [](const fs::path& path) { return ::open(path.c_str(), O_RDONLY); };

  const int segment = descriptor_of(mapped),
            shared = descriptor_of(daemon / "pmix_dstor_ds12_1/smseg-1");
  void* const map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, segment, 0);
  void* const daemons = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, shared, 0);
  ::close(segment);
  ::close(shared);
  const int descriptor = descriptor_of(open);
  const Leftovers removed = remove_leftovers(host.places);
  BOOST_TEST(removed.segments == 1);
  BOOST_TEST(removed.sessions == 0);
  BOOST_TEST(fs::exists(mapped));
  BOOST_TEST(fs::exists(open));
  ::munmap(map, 4096);
  ::munmap(daemons, 4096);
  ::close(descriptor);
  BOOST_TEST(remove_leftovers(host.places).segments == 2);
}

BOOST_AUTO_TEST_CASE(nothing_is_removed_where_processes_cannot_be_seen) {
  Host host;
  host.segment(host.segment_name("3f0001.0"));
  host.places.processes = host.scratch / "no_proc";
  BOOST_TEST(remove_leftovers(host.places).segments == 0);
}

BOOST_AUTO_TEST_SUITE_END()
