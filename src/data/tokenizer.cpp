#include "tokenizer.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <span>
#include <system_error>
#include <utility>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

[[noreturn]] void refuse(const char* what, std::string where, std::string why, const char* remedy) {
  throw Error(ExitCode::bad_data,
              {.what = what, .where = std::move(where), .why = std::move(why), .remedy = remedy});
}

FileDescriptor open_split(const std::filesystem::path& path) {
  RegularFile file = open_regular(path);
  if (!file.refusal.empty()) {
    refuse("cannot open corpus file", path.string(), file.refusal,
           "the folder must hold ptb.train.txt, ptb.valid.txt and ptb.test.txt");
  }
  if (file.bytes > kMaxFileBytes) {
    refuse("corpus file is too large", path.string(),
           fmt::format("it has {}, the limit is {}", bytes_text(file.bytes),
                       bytes_text(kMaxFileBytes)),
           "train on a part of it");
  }
  return std::move(file.descriptor);
}

bool is_space(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');  // tab, LF, VT, FF, CR
}

// The word itself if other tools mark the end of a sentence with it; else empty.
std::string_view mark_of(std::string_view word) {
  if (!word.starts_with('<') || !word.ends_with('>')) return {};
  for (const std::string_view mark : {"<eos>", "<EOS>", "</s>", "</S>", "<|endoftext|>"}) {
    if (word == mark) return mark;
  }
  return {};
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& path)
    : path_(path.string()), file_(open_split(path)), block_(kBlockBytes), text_(block_.data(), 0) {
  if (has_text() && text_.starts_with(kByteOrderMark)) {
    text_.remove_prefix(kByteOrderMark.size());
    offset_ += std::ssize(kByteOrderMark);
  }
}

bool Tokenizer::next() {
  std::string_view mark{};
  if (std::exchange(ended_line_, false)) {
    ++line_;
    line_begin_ = offset_;
  } else {
    mark = mark_of(word_);
  }
  word_.clear();
  while (has_text()) {
    const std::string_view c = character();
    check_lengths(c);
    // White space after a word stays for the next call, which may have to return <eos> for it.
    if (is_space(c[0]) && !word_.empty()) return emit();
    text_.remove_prefix(c.size());
    offset_ += std::ssize(c);
    if (c[0] == '\n') {
      ended_line_ = true;
      if (!mark.empty() && ++marked_lines_ == 1) end_mark_ = mark;
      word_ = kEndOfSentence;
      return emit();
    }
    if (!is_space(c[0])) word_.append(c);
  }
  if (!word_.empty()) return emit();
  if (!has_words_) {
    refuse("corpus file holds no words", path_,
           offset_ == 0 ? "it is empty" : "it has only white space", "put text into it");
  }
  return false;
}

std::string Tokenizer::place() const { return fmt::format("{}:{}", path_, line_); }

// Whether text_ begins with a character. It is complete unless the file ends within it.
bool Tokenizer::has_text() {
  constexpr std::size_t kLongestCharacter = 4;
  if (text_.size() < kLongestCharacter) {
    const std::size_t rest = text_.size();
    std::memmove(block_.data(), text_.data(), rest);  // the two may overlap
    const std::int64_t read = read_all(file_, std::span(block_).subspan(rest));
    if (read < 0) {
      refuse("cannot read corpus file", path_, std::generic_category().message(errno),
             "check the disk");
    }
    text_ = {block_.data(), rest + static_cast<std::size_t>(read)};
  }
  return !text_.empty();
}

std::string_view Tokenizer::character() const {
  if (text_[0] == 0) refuse_byte("NUL byte");
  const std::size_t length = utf8_length(text_);
  if (length == 0) refuse_byte("invalid UTF-8");
  return text_.substr(0, length);
}

void Tokenizer::check_lengths(std::string_view character) const {
  if (word_.size() + character.size() > kMaxWordBytes && !is_space(character[0])) {
    refuse("corpus word is too long", place(),
           fmt::format("\"{}\" has more than {}", escaped(word_, 20),
                       bytes_text(std::int64_t{kMaxWordBytes})),
           "separate words by white space");
  }
  if (offset_ - line_begin_ >= kMaxLineBytes && character[0] != '\n') {
    refuse("corpus line is too long", place(),
           fmt::format("more than {}", bytes_text(kMaxLineBytes)), "put one sentence in a line");
  }
}

bool Tokenizer::emit() {
  has_words_ = has_words_ || !ended_line_;
  if (++tokens_ > kMaxTokens) {
    refuse("corpus file is too large", path_, fmt::format("more than {} tokens", kMaxTokens),
           "train on a part of it");
  }
  return true;
}

void Tokenizer::refuse_byte(const char* problem) const {
  refuse("corpus file is not UTF-8 text", place(),
         fmt::format("{} at byte {} of the file", problem, offset_), "convert it to UTF-8 (iconv)");
}

}  // namespace ptb
