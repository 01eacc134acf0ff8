#include "tokenizer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

[[noreturn]] void refuse(const char* what, std::string where, std::string why, const char* remedy) {
  throw Error(ExitCode::bad_data,
              {.what = what, .where = std::move(where), .why = std::move(why), .remedy = remedy});
}

std::string system_message(int error) { return std::generic_category().message(error); }

bool is_space(unsigned char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');  // tab, LF, VT, FF, CR
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path)
    : path_(path.string()),
      // Without O_NONBLOCK, opening a FIFO waits for its writer.
      descriptor_(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    refuse("cannot open corpus file", path_, system_message(errno),
           "the folder must hold ptb.train.txt, ptb.valid.txt and ptb.test.txt");
  }
  try {
    check_kind();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::check_kind() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) {
    refuse("cannot examine corpus file", path_, system_message(errno), "check the disk");
  }
  if (!S_ISREG(status.st_mode)) {
    refuse("cannot read corpus file", path_,
           S_ISDIR(status.st_mode) ? "it is a directory" : "it is not a regular file",
           "put a text file there");
  }
  if (status.st_size > kMaxFileBytes) {
    refuse("corpus file is too large", path_,
           fmt::format("{} bytes, the limit is {}", status.st_size, kMaxFileBytes),
           "train on a part of it");
  }
}

std::string_view InputFile::read(std::vector<char>& block) const {
  std::size_t filled = 0;
  while (filled < block.size()) {
    const ssize_t got = ::read(descriptor_, block.data() + filled, block.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse("cannot read corpus file", path_, system_message(errno), "check the disk");
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return {block.data(), filled};
}

bool Utf8Check::accept(unsigned char byte) {
  if (missing_ > 0) {
    if (byte < low_ || byte > high_) return false;
    low_ = 0x80;
    high_ = 0xBF;
    --missing_;
    pending_ = missing_ > 0 ? pending_ + 1 : 0;
    return true;
  }
  if (byte < 0x80) return true;
  if (byte < 0xC2 || byte > 0xF4) return false;  // C0 and C1 could only begin overlong forms
  missing_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  pending_ = 1;
  // The second byte has a narrower range where overlong forms (E0, F0), surrogates (ED) and values
  // above U+10FFFF (F4) would begin.
  if (byte == 0xE0) low_ = 0xA0;
  if (byte == 0xED) high_ = 0x9F;
  if (byte == 0xF0) low_ = 0x90;
  if (byte == 0xF4) high_ = 0x8F;
  return true;
}

Tokenizer::Tokenizer(const std::filesystem::path& path)
    : path_(path.string()), file_(path), block_(kBlockBytes), text_(file_.read(block_)) {
  if (text_.starts_with(kByteOrderMark)) {
    text_.remove_prefix(kByteOrderMark.size());
    offset_ += static_cast<std::int64_t>(kByteOrderMark.size());
  }
}

bool Tokenizer::next() {
  word_.clear();
  if (std::exchange(ended_line_, false)) {
    ++line_;
    line_begin_ = offset_;
  }
  while (has_byte()) {
    const auto byte = static_cast<unsigned char>(text_.front());
    check(byte);
    // White space behind a word stays for the next call, which may have to make <eos> of it.
    if (is_space(byte) && !word_.empty()) return emit();
    text_.remove_prefix(1);
    ++offset_;
    if (byte == '\n') {
      ended_line_ = true;
      word_ = kEndOfSentence;
      return emit();
    }
    if (!is_space(byte)) word_.push_back(static_cast<char>(byte));
  }
  if (utf8_.pending() > 0) refuse_byte("the file ends within a UTF-8 character");
  if (!word_.empty()) return emit();
  if (!has_words_) {
    refuse("corpus file holds no words", path_,
           offset_ == 0 ? "it is empty" : "it has only white space", "put text there");
  }
  return false;
}

std::string Tokenizer::place() const { return fmt::format("{}:{}", path_, line_); }

bool Tokenizer::has_byte() {
  if (text_.empty()) text_ = file_.read(block_);
  return !text_.empty();
}

void Tokenizer::check(unsigned char byte) {
  if (byte == 0) refuse_byte("NUL byte");
  if (!utf8_.accept(byte)) refuse_byte("invalid UTF-8");
  if (word_.size() >= kMaxWordBytes && !is_space(byte)) {
    refuse("corpus word is too long", place(),
           fmt::format("\"{}\" has more than {} bytes", escaped(word_, 20), kMaxWordBytes),
           "separate words by white space");
  }
  if (offset_ - line_begin_ >= kMaxLineBytes && byte != '\n') {
    refuse("corpus line is too long", place(), fmt::format("more than {} bytes", kMaxLineBytes),
           "put one sentence in a line");
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
         fmt::format("{} at byte {} of the file", problem, offset_ - utf8_.pending()),
         "convert it to UTF-8 (iconv)");
}

}  // namespace ptb
