#include "ptb_dist/base/error.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

namespace ptb {
namespace {

// A line shows a path in full, and a path may have 4096 bytes.
constexpr std::size_t kLongestPart = 4096;

// C0, DEL and C1 (U+0080 to U+009F control terminals, too).
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

std::vector<std::string> lines_of(const std::vector<Complaint>& complaints) {
  std::vector<std::string> lines;
  for (const Complaint& complaint : complaints) lines.push_back(complaint.line());
  return lines;
}

// Levenshtein distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // row[j]: of a's first i bytes and b's first j
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Complaint::line() const {
  std::string line = escaped(what, kLongestPart);
  const auto append = [&line](const char* separator, const std::string& part) {
    if (part.empty()) return;
    if (!line.empty()) line += separator;
    line += escaped(part, kLongestPart);
  };
  append(": ", where);
  append(": ", why);
  append("; ", remedy);
  return line;
}

Error::Error(ExitCode code, Complaint complaint)
    : Error(code, std::vector<Complaint>{std::move(complaint)}) {}

Error::Error(ExitCode code, std::vector<Complaint> complaints)
    : std::runtime_error(fmt::format("{}", fmt::join(lines_of(complaints), "\n"))),
      code_(code),
      lines_(lines_of(complaints)) {}

std::string escaped(std::string_view text, std::size_t limit) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
    std::string printable;
    if (length == 0 || is_control(character)) {
      for (const char byte : character) {
        printable += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
      }
    } else {
      printable = character;
    }
    if (out.size() + printable.size() > limit) return out + "...";
    out += printable;
    text.remove_prefix(character.size());
  }
  return out;
}

std::string one_line(std::string_view text) { return escaped(text, std::string::npos); }

std::size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const unsigned first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;  // by far the most frequent in a corpus
  const auto byte = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&byte](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned second = byte(1);
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  // The bounds of the second byte exclude overlong forms (e0, f0), surrogates (ed) and characters
  // above U+10FFFF (f4).
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return second >= low && second <= high && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

std::string did_you_mean(std::string_view given, const std::vector<std::string>& names) {
  // Two mistakes, or a third of a long name; a suggestion further away is noise. The cut bounds
  // the time for a hostile key, which grows with its length.
  constexpr std::size_t kLongestName = 100;
  if (given.size() > kLongestName) return {};
  const std::string* nearest = nullptr;
  std::size_t distance = std::max<std::size_t>(2, given.size() / 3) + 1;
  for (const std::string& name : names) {
    const std::size_t d = edit_distance(given, name);
    if (d >= distance || d >= name.size()) continue;
    distance = d;
    nearest = &name;
  }
  return nearest ? fmt::format("did you mean \"{}\"?", *nearest) : std::string();
}

void require(bool holds, const char* invariant, std::source_location where) {
  if (holds) return;
  const std::string file = std::filesystem::path(where.file_name()).filename().string();
  throw Error(ExitCode::internal, {.what = "internal error",
                                   .where = fmt::format("{}:{}", file, where.line()),
                                   .why = fmt::format("\"{}\" does not hold", invariant),
                                   .remedy = "this is a defect of ptb_dist, please report it"});
}

}  // namespace ptb
