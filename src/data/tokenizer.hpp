// From the bytes of a file to its tokens.
//
// A file is read in blocks and checked byte by byte, so that memory does not depend on how its
// lines are cut, and a hostile file is refused early. Rules beyond those of corpus.hpp:
//   - A UTF-8 byte order mark at the very beginning is accepted and dropped.
//   - NUL bytes and invalid UTF-8 (overlong forms, surrogates and values above U+10FFFF included)
//     are refused, with their line, from 1, and byte offset in the file, from 0.
//   - Only a newline becomes <eos>: a last line without one ends without <eos>, as in the tutorial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ptb {

inline constexpr const char* kEndOfSentence = "<eos>";
inline constexpr const char* kUnknownWord = "<unk>";

// Limits of a split, far above real corpora of this kind (text8 is one line of 100 MB).
inline constexpr std::int64_t kMaxFileBytes = std::int64_t{2} << 30;
inline constexpr std::int64_t kMaxLineBytes = std::int64_t{128} << 20;
inline constexpr std::size_t kMaxWordBytes = std::size_t{64} << 10;
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 28;  // 1 GiB of ids

// A regular file, open for reading. Anything else is refused before a byte is read.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Fills `block`, less than all of it only at the end of the file; returns the filled part.
  std::string_view read(std::vector<char>& block) const;

 private:
  void check_kind() const;

  std::string path_;
  int descriptor_;
};

// Takes bytes one at a time and says when they cannot be UTF-8.
class Utf8Check {
 public:
  // False, and nothing changes, if `byte` cannot stand here.
  bool accept(unsigned char byte);
  // Bytes so far of a character that is not complete yet.
  int pending() const { return pending_; }

 private:
  int pending_ = 0;
  int missing_ = 0;
  unsigned char low_ = 0x80;  // range of the next continuation byte
  unsigned char high_ = 0xBF;
};

//   for (Tokenizer tokens(path); tokens.next();) use(tokens.word());
// Error 65 for whatever is wrong with the file.
class Tokenizer {
 public:
  explicit Tokenizer(const std::filesystem::path& path);

  // Moves on to the next token; false at the end of the file.
  bool next();
  // The token, valid until the next call of next().
  const std::string& word() const { return word_; }
  // "path:line" of the token, for messages.
  std::string place() const;

 private:
  bool has_byte();
  void check(unsigned char byte);
  bool emit();
  [[noreturn]] void refuse_byte(const char* problem) const;

  std::string path_;
  InputFile file_;
  std::vector<char> block_;
  std::string_view text_;    // what is left of the block
  std::int64_t offset_ = 0;  // of text_'s first byte, in the file
  std::int64_t line_ = 1;
  std::int64_t line_begin_ = 0;
  std::int64_t tokens_ = 0;
  bool has_words_ = false;
  bool ended_line_ = false;  // the token is the <eos> that ended the line before line_
  Utf8Check utf8_;
  std::string word_;
};

}  // namespace ptb
