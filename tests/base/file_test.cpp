#include "ptb_dist/base/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>

namespace ptb {
namespace {

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) != -1; }

BOOST_AUTO_TEST_SUITE(files)

BOOST_AUTO_TEST_CASE(a_descriptor_is_closed_once_by_its_last_owner) {
  int number = -1;
  {
    FileDescriptor first(::open("/dev/null", O_RDONLY));
    number = first.get();
    const FileDescriptor second(std::move(first));
    BOOST_TEST(!first.is_open());
    BOOST_TEST(first.close() == 0);
    BOOST_TEST(is_open(number));
    BOOST_TEST(second.get() == number);
  }
  BOOST_TEST(!is_open(number));
}

BOOST_AUTO_TEST_CASE(only_regular_files_are_opened) {
  const RegularFile self = open_regular("/proc/self/exe");
  BOOST_TEST(self.refusal == "");
  BOOST_TEST(self.descriptor.is_open());
  BOOST_TEST(self.bytes > 0);

  const RegularFile folder = open_regular("/");
  BOOST_TEST(folder.refusal == "is a folder");
  BOOST_TEST(folder.error_number == 0);
  BOOST_TEST(open_regular("/dev/zero").refusal == "is not a regular file");
  const RegularFile absent = open_regular("/no/such/file");
  BOOST_TEST(absent.refusal == "No such file or directory");
  BOOST_TEST(absent.error_number == ENOENT);
  BOOST_TEST(!absent.descriptor.is_open());
}

BOOST_AUTO_TEST_CASE(short_reads_are_joined) {
  std::array<int, 2> ends{};
  BOOST_TEST_REQUIRE(::pipe(ends.data()) == 0);
  const FileDescriptor from(ends[0]);
  std::jthread writer([to = ends[1]] {
    const FileDescriptor owner(to);
    for (const char c : {'a', 'b', 'c'}) {
      if (::write(to, &c, 1) != 1) return;
      ::usleep(2000);
    }
  });
  std::string text(5, '-');
  BOOST_TEST(read_all(from, text) == 3);
  BOOST_TEST(text == "abc--");
  BOOST_TEST(read_all(FileDescriptor(), text) == -1);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
