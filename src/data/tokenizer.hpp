// From the bytes of a file to its tokens.
//
// A file is read in blocks and checked character by character. So memory does not depend on the
// length of lines, and a hostile file is refused early. Rules beyond those of corpus.hpp:
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

#include "ptb_dist/base/file.hpp"

namespace ptb {

inline constexpr const char* kEndOfSentence = "<eos>";
inline constexpr const char* kUnknownWord = "<unk>";

// Limits of a split, far above real corpora of this kind (text8 is one line of 100 MB).
inline constexpr std::int64_t kMaxFileBytes = std::int64_t{2} << 30;
inline constexpr std::int64_t kMaxLineBytes = std::int64_t{128} << 20;
inline constexpr std::size_t kMaxWordBytes = std::size_t{64} << 10;
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 28;  // 1 GiB of ids

//   for (Tokenizer tokens(path); tokens.next();) use(tokens.word());
// Error 65 for any defect of the file.
class Tokenizer {
 public:
  explicit Tokenizer(const std::filesystem::path& path);

  // Moves on to the next token; false at the end of the file.
  bool next();
  // The token, valid until the next call of next().
  const std::string& word() const { return word_; }
  // "path:line" of the token, for messages.
  std::string place() const;
  // How many lines so far had an end mark of other tools, <eos> or </s>, before their line feed;
  // and the first such mark.
  std::int64_t marked_lines() const { return marked_lines_; }
  const std::string& end_mark() const { return end_mark_; }

 private:
  bool has_text();
  std::string_view character() const;
  void check_lengths(std::string_view character) const;
  bool emit();
  [[noreturn]] void refuse_byte(const char* problem) const;

  std::string path_;
  FileDescriptor file_;
  std::vector<char> block_;
  std::string_view text_{};  // the rest of the block
  std::int64_t offset_ = 0;  // of text_'s first byte, in the file
  std::int64_t line_ = 1;
  std::int64_t line_begin_ = 0;
  std::int64_t tokens_ = 0;
  bool has_words_ = false;
  bool ended_line_ = false;  // the token is the <eos> of the line before line_
  std::string word_{};
  std::int64_t marked_lines_ = 0;
  std::string end_mark_{};
};

}  // namespace ptb
