#include "io/files/user_block.hpp"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "io/files/digest.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

constexpr std::string_view kDigestLine = "\nxxh3_128 = ";
const std::string kZeros(kDigestDigits, '0');

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The rest of the line with this beginning, "\nbytes = "; empty if there is no such line.
std::string_view value(std::string_view block, std::string_view beginning) {
  const std::size_t at = block.find(beginning);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = block.substr(at + beginning.size());
  return rest.substr(0, rest.find('\n'));
}

// -1 if it is no number.
std::int64_t number(std::string_view digits) {
  std::int64_t result = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, failure] = std::from_chars(digits.data(), end, result);
  return failure == std::errc() && stop == end ? result : -1;
}

void check_title(std::string_view block, const Subject& subject) {
  const std::string_view title = kUserBlockTitle;
  if (block.starts_with(title)) return;
  if (block.empty()) throw subject.error("is empty");
  throw subject.error(title.starts_with(block) ? "truncated within its first line"
                                               : "is not a checkpoint of ptb_dist");
}

void check_format(std::string_view block, const Subject& subject) {
  const std::int64_t format = number(value(block, "\nformat = "));
  if (format == kCheckpointFormat) return;
  if (format < 0) throw subject.error("does not say which format it is written in");
  throw subject.error(fmt::format("written in format {} by {} ptb_dist; this one reads format {}",
                                  format, format > kCheckpointFormat ? "a later" : "an earlier",
                                  kCheckpointFormat));
}

}  // namespace

std::string text_of(const UserBlock& block) {
  std::string result = fmt::format("{}format = {}\nbytes = {}{}{}\nstep = {}\n", kUserBlockTitle,
                                   kCheckpointFormat, block.bytes, kDigestLine,
                                   block.digest.empty() ? kZeros : block.digest, block.step);
  result.resize(kUserBlockBytes, '\0');
  return result;
}

UserBlock parse_user_block(std::span<const std::byte> head, std::int64_t file_bytes,
                           const Subject& subject) {
  const std::string_view block = text(head);
  check_title(block, subject);
  // In a later format everything after this may differ, even the length of the block.
  check_format(block, subject);
  const UserBlock result{.bytes = number(value(block, "\nbytes = ")),
                         .digest = std::string(value(block, kDigestLine)),
                         .step = number(value(block, "\nstep = "))};
  if (head.size() < kUserBlockBytes) {
    throw subject.error(fmt::format("truncated within its first {} bytes", kUserBlockBytes));
  }
  if (file_bytes < result.bytes) {
    throw subject.error(fmt::format("truncated: {} of {} bytes", file_bytes, result.bytes));
  }
  if (block != text_of(result)) throw subject.error("its first 512 bytes are damaged");
  if (file_bytes > result.bytes) {
    throw subject.error(
        fmt::format("has {} bytes, {} of them too many", file_bytes, file_bytes - result.bytes));
  }
  return result;
}

std::string digest_of_checkpoint(std::span<const std::byte> image) {
  const std::size_t line = text(image.first(kUserBlockBytes)).find(kDigestLine);
  require(line != std::string_view::npos, "a checkpoint has a line for its digest");
  const std::size_t digits = line + kDigestLine.size();
  return digest_of({image.first(digits), std::as_bytes(std::span(kZeros)),
                    image.subspan(digits + kDigestDigits)});
}

}  // namespace ptb
