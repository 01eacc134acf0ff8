// The reader: its rules on tiny corpora, every refusal, and hand-counted facts of the Penn
// Treebank.
#include "ptb_dist/data/corpus.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "ptb_dist/base/error.hpp"
#include "support/requirements.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Words = std::vector<std::string>;
using namespace std::string_literals;

// A folder with three splits, gone at the end of the test.
class TinyCorpus {
 public:
  explicit TinyCorpus(const std::string& train = "a b <unk>\n", const std::string& valid = "a\n",
                      const std::string& test = "b\n") {
    std::string name = (fs::temp_directory_path() / "ptb_dist_corpus_XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    write("train", train);
    write("valid", valid);
    write("test", test);
  }
  ~TinyCorpus() { fs::remove_all(folder_); }
  TinyCorpus(const TinyCorpus&) = delete;
  TinyCorpus& operator=(const TinyCorpus&) = delete;

  void write(const std::string& split, const std::string& text) const {
    std::ofstream(path(split), std::ios::binary) << text;
  }
  fs::path path(const std::string& split) const { return folder_ / ("ptb." + split + ".txt"); }
  const fs::path& folder() const { return folder_; }
  Corpus read(int vocab_size = 100) const { return read_corpus(folder_, vocab_size); }

 private:
  fs::path folder_;
};

// Reading fails with 65, in one line, which has all of these parts.
void check_refused(const fs::path& folder, const Words& parts, int vocab_size = 100) {
  try {
    read_corpus(folder, vocab_size);
    BOOST_ERROR("read without complaint, expected: " << parts.front());
  } catch (const Error& error) {
    BOOST_TEST((error.code() == ExitCode::bad_data));
    BOOST_REQUIRE(error.lines().size() == 1u);
    const std::string& line = error.lines().front();
    BOOST_TEST(line.find('\n') == std::string::npos);
    for (const std::string& part : parts) {
      BOOST_TEST(line.find(part) != std::string::npos, "\"" << part << "\" in: " << line);
    }
  }
}

// What the training split reads to, as words.
Words training_words(const std::string& text) {
  const Corpus corpus = TinyCorpus(text, text, text).read();
  Words words;
  for (const std::int32_t id : corpus.split(Split::train)) {
    words.push_back(corpus.words[static_cast<std::size_t>(id)]);
  }
  return words;
}

BOOST_AUTO_TEST_CASE(vocabulary_is_by_descending_count_then_by_bytes) {
  // c and <eos> three times, a and \xC3\xA9 (above ASCII, unsigned) and B twice, z once.
  const TinyCorpus files("c a \xC3\xA9 B\nc z a \xC3\xA9 B\n c\n", "c\n", "z\n");
  const Corpus corpus = files.read();
  BOOST_TEST(corpus.words == (Words{"<eos>", "c", "B", "a", "\xC3\xA9", "z"}),
             boost::test_tools::per_element());
  BOOST_TEST(corpus.split(Split::train) == (Ids{1, 3, 4, 2, 0, 1, 5, 3, 4, 2, 0, 1, 0}),
             boost::test_tools::per_element());
  BOOST_TEST(corpus.source == files.folder().string());
  BOOST_TEST(!corpus.perplexity_bound.has_value());
}

BOOST_AUTO_TEST_CASE(newlines_become_eos_and_white_space_is_ascii) {
  const Words two_lines = {"a", "b", "<eos>", "c", "<eos>"};
  const auto same = boost::test_tools::per_element();
  BOOST_TEST(training_words("a b\nc\n") == two_lines, same);
  BOOST_TEST(training_words(" a b \n c \n") == two_lines, same);
  BOOST_TEST(training_words("a b\r\nc\r\n") == two_lines, same);
  BOOST_TEST(training_words("a\tb\n\v\f\rc\n") == two_lines, same);
  BOOST_TEST(training_words("\xEF\xBB\xBF"
                            "a b\nc\n") == two_lines,
             same);  // byte order mark
  BOOST_TEST(training_words("a\n\nb\n") == (Words{"a", "<eos>", "<eos>", "b", "<eos>"}), same);
  BOOST_TEST(training_words("a\nb") == (Words{"a", "<eos>", "b"}), same);  // as the tutorial
  BOOST_TEST(training_words("a <eos> b") == (Words{"a", "<eos>", "b"}), same);
  // Neither U+00A0 nor U+2028 nor a second byte order mark separates words.
  BOOST_TEST(training_words("a\xC2\xA0"
                            "b\xE2\x80\xA8"
                            "c\xEF\xBB\xBF\n")
                 .size() == 2u);
}

BOOST_AUTO_TEST_CASE(lines_that_end_in_a_mark_of_other_tools_are_counted_and_read_as_before) {
  struct Row {
    const char* train;
    std::int64_t lines;
    const char* mark;
    std::int64_t tokens;
  };
  const Row rows[] = {
      {"a <eos>\nb <eos> \t\r\n<eos>\nc\n", 3, "<eos>", 10},
      {"a </s>\n\nb </s>\n<unk>\n", 2, "</s>", 9},
      {"a <EOS>\nb <eos>\n<unk>\n", 2, "<EOS>", 8},
      {"a <eos> b <eos> c <unk>\n", 0, "", 7},  // in the place of line feeds
      {"a b <eos>", 0, "", 3},                  // no line feed follows
      {"a <eos>\n", 1, "<eos>", 3},
      {"<unk>\n<eosx>\n<s>\n", 0, "", 6},
  };
  for (const Row& row : rows) {
    BOOST_TEST_CONTEXT(row.train) {
      const Corpus corpus = TinyCorpus(row.train, "<eos>\n", row.train).read();
      BOOST_TEST(corpus.marked_lines[0] == row.lines);
      BOOST_TEST(corpus.marked_lines[1] == 1);
      BOOST_TEST(corpus.marked_lines[2] == row.lines);
      BOOST_TEST(corpus.end_mark == (row.lines > 0 ? row.mark : "<eos>"));
      BOOST_TEST(std::ssize(corpus.tokens[0]) == row.tokens);
    }
  }
}

BOOST_AUTO_TEST_CASE(words_and_characters_may_lie_across_blocks) {
  // The reader takes 1 MiB at a time; a three-byte character is moved over that border.
  for (int shift = 0; shift < 5; ++shift) {
    const std::string filler((std::size_t{1} << 20) - 4 - static_cast<std::size_t>(shift), ' ');
    const Words words = training_words(filler + "x\xE2\x82\xACy z\n");
    BOOST_TEST(words == (Words{"x\xE2\x82\xACy", "z", "<eos>"}), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(unknown_words_become_unk_and_are_counted) {
  const Corpus corpus = TinyCorpus("a a <unk>\n", "a x y\n", "<unk> x\n").read();
  BOOST_TEST(corpus.words == (Words{"a", "<eos>", "<unk>"}), boost::test_tools::per_element());
  BOOST_TEST(corpus.split(Split::valid) == (Ids{0, 2, 2, 1}), boost::test_tools::per_element());
  BOOST_TEST(corpus.split(Split::test) == (Ids{2, 2, 1}), boost::test_tools::per_element());
  BOOST_TEST(corpus.unknown[0] == 0);
  BOOST_TEST(corpus.unknown[1] == 2);
  BOOST_TEST(corpus.unknown[2] == 1);
}

BOOST_AUTO_TEST_CASE(unknown_words_without_unk_are_refused) {
  const TinyCorpus files("a b\n", "a\nb x\x1B[31my\n");
  check_refused(files.folder(), {"ptb.valid.txt:2", "x\\x1b[31my", "<unk>"});
}

BOOST_AUTO_TEST_CASE(missing_folders_and_files_are_named) {
  const TinyCorpus files;
  check_refused(files.folder() / "absent", {"absent", "No such file", "--data synthetic"});
  check_refused(files.path("train"), {"ptb.train.txt", "not a folder"});
  fs::remove(files.path("valid"));
  check_refused(files.folder(), {"ptb.valid.txt", "No such file"});
}

BOOST_AUTO_TEST_CASE(splits_without_words_are_refused) {
  const auto check = [](const TinyCorpus& files, const Words& parts) {
    check_refused(files.folder(), parts);
  };
  check(TinyCorpus(""), {"ptb.train.txt", "empty"});
  check(TinyCorpus("a\n", ""), {"ptb.valid.txt", "empty"});
  check(TinyCorpus("a\n", "a\n", "\n\n\n"), {"ptb.test.txt", "white space"});
  check(TinyCorpus(" \t\r\n \n"), {"ptb.train.txt", "white space"});
  check(TinyCorpus("\xEF\xBB\xBF"), {"ptb.train.txt", "white space"});
}

// A reader that opened the FIFO would wait for its writer; then the test's timeout would end it.
BOOST_AUTO_TEST_CASE(other_kinds_of_file_are_refused_unread, *boost::unit_test::timeout(20)) {
  const TinyCorpus files;
  fs::remove(files.path("test"));
  fs::create_directory(files.path("test"));
  check_refused(files.folder(), {"ptb.test.txt", "is a folder"});
  fs::remove(files.path("valid"));
  BOOST_REQUIRE(mkfifo(files.path("valid").c_str(), 0600) == 0);
  check_refused(files.folder(), {"ptb.valid.txt", "not a regular file"});
  fs::remove(files.path("train"));
  fs::create_symlink("/dev/zero", files.path("train"));
  check_refused(files.folder(), {"ptb.train.txt", "not a regular file"});
  fs::remove(files.path("train"));
  fs::create_symlink("ptb.train.txt", files.path("train"));
  check_refused(files.folder(), {"ptb.train.txt", "symbolic links"});
}

BOOST_AUTO_TEST_CASE(unreadable_files_are_refused,
                     *boost::unit_test::precondition(test::needs_other_user)) {
  const TinyCorpus files;
  fs::permissions(files.folder(), fs::perms::owner_all | fs::perms::others_all);
  fs::permissions(files.path("train"), fs::perms::none);
  const test::OtherUser user;
  check_refused(files.folder(), {"ptb.train.txt", "Permission denied"});
}

BOOST_AUTO_TEST_CASE(bytes_that_are_no_text_are_refused_with_their_place) {
  struct Case {
    std::string text;
    Words parts;
  };
  const Case cases[] = {
      {"a\nb\0c\n"s, {":2", "NUL", "byte 3"}},
      {"a\n\xFF\n", {":2", "UTF-8", "byte 2"}},
      {"\xEF\xBB\xBF"
       "a\xFF\n",
       {":1", "byte 4"}},
      {"a\x80\n", {"byte 1"}},  // a continuation of nothing
      {"a\xC3\n", {"byte 1"}},  // cut by white space
      {"a \xE2\x82"
       "b\n",
       {"byte 2"}},                // cut by a letter
      {"a \xE2\x82", {"byte 2"}},  // cut by the end
      {"\xC0\xAF\n", {"byte 0"}},  // overlong, 2 bytes
      {"\xC1\xBF\n", {"byte 0"}},
      {"\xE0\x9F\xBF\n", {"byte 0"}},      // overlong, 3 bytes
      {"\xF0\x8F\xBF\xBF\n", {"byte 0"}},  // overlong, 4 bytes
      {"\xED\xA0\x80\n", {"byte 0"}},      // surrogate
      {"\xF4\x90\x80\x80\n", {"byte 0"}},  // above U+10FFFF
      {"\xF5\x80\x80\x80\n", {"byte 0"}},
  };
  for (const Case& c : cases) check_refused(TinyCorpus(c.text).folder(), c.parts);
  // The neighbours of those are text.
  BOOST_TEST(training_words("\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
                            "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF")
                 .size() == 1u);
}

BOOST_AUTO_TEST_CASE(limits_are_named) {
  const std::size_t longest = std::size_t{64} << 10;
  BOOST_TEST(training_words(std::string(longest, 'x') + "\n").size() == 2u);
  check_refused(TinyCorpus("a\n" + std::string(longest + 1, 'x')).folder(), {":2", "65.5 kB"});

  TinyCorpus files;
  fs::resize_file(files.path("train"), (std::uintmax_t{2} << 30) + 1);  // sparse
  check_refused(files.folder(), {"it has 2.15 GB", "the limit is 2.15 GB"});

  files.write("train", "a" + std::string(std::size_t{128} << 20, ' '));
  check_refused(files.folder(), {":1", "134.2 MB"});
}

BOOST_AUTO_TEST_CASE(a_vocabulary_larger_than_vocab_size_is_refused) {
  const TinyCorpus files("a b c <unk>\n");
  BOOST_TEST(files.read(5).words.size() == 5u);
  BOOST_TEST(files.read(6).words.size() == 5u);
  check_refused(files.folder(), {"5 distinct words", "vocab_size is 4", "--vocab-size 5"}, 4);

  std::string many;
  for (int i = 0; i < 1'000'100; ++i) many += fmt::format("{} ", i);
  files.write("train", many);
  check_refused(files.folder(), {"more than 1000000 distinct words"}, 4);
}

// Counted without this reader, in the folder of the files:
//   export LC_ALL=C
//   words() { sed 's/$/ <eos>/' $1 | tr ' ' '\n' | grep .; }
//   words ptb.train.txt | sort | uniq -c | sort -k1,1nr -k2,2 > vocabulary
//   wc -l vocabulary; head vocabulary
//   for split in train valid test; do
//     words ptb.$split.txt | wc -l
//     words ptb.$split.txt | awk 'NR == FNR { id[$2] = FNR - 1; next }
//                                 { s += id[$1] * (FNR % 997) }
//                                 END { printf "%.0f\n", s }' vocabulary -
//   done
BOOST_AUTO_TEST_CASE(facts_of_the_penn_treebank, *boost::unit_test::precondition(test::needs_ptb)) {
  const Corpus corpus = read_corpus(test::ptb_folder().value(), 10'000);
  BOOST_TEST(corpus.words.size() == 10'000u);
  const Words frequent = {"the", "<unk>", "<eos>", "N", "of", "to", "a", "in", "and", "'s"};
  BOOST_TEST(Words(corpus.words.begin(), corpus.words.begin() + 10) == frequent,
             boost::test_tools::per_element());
  BOOST_TEST(corpus.words.back() == "wachter");
  const auto& train = corpus.split(Split::train);
  const std::vector<std::ptrdiff_t> counts = {50770, 45020, 42068, 32481, 24400, 23638};
  for (std::size_t id = 0; id < counts.size(); ++id) {
    BOOST_TEST(std::count(train.begin(), train.end(), static_cast<std::int32_t>(id)) == counts[id]);
  }

  struct Facts {
    std::size_t tokens;
    Ids first;
    std::int64_t weighted_sum;
  };
  const Facts facts[] = {{929'589, {9970, 9971, 9972, 9974, 9975, 9976}, 378'307'644'090},
                         {73'760, {1132, 93, 358, 5, 329, 51}, 32'408'357'625},
                         {82'430, {102, 14, 24, 32, 752, 381}, 31'376'856'217}};
  for (std::size_t s = 0; s < 3; ++s) {
    const Ids& tokens = corpus.tokens[s];
    BOOST_TEST(tokens.size() == facts[s].tokens);
    BOOST_TEST(Ids(tokens.begin(), tokens.begin() + 6) == facts[s].first,
               boost::test_tools::per_element());
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      sum += tokens[i] * static_cast<std::int64_t>((i + 1) % 997);
    }
    BOOST_TEST(sum == facts[s].weighted_sum);
    BOOST_TEST(corpus.unknown[s] == 0);
  }
}

}  // namespace
}  // namespace ptb
