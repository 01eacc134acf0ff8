// From files and flags to a checked Config. No other file uses toml++.
#include "ptb_dist/base/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <system_error>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/file.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

// A configuration with every key and a comment on each has 3 KB. The limit also bounds how deeply a
// hostile file can nest: 64 KB of "a.a.a..." overrun an 8 MB stack in toml++ 3.3, 32 KB do not.
constexpr std::int64_t kMaxFileBytes = 16 * 1024;
// A file with this many syntax errors is no configuration.
constexpr int kMaxSyntaxErrors = 20;

using Value = Key::Value;

const Key* find_key(std::string_view name) {
  const auto& schema = config_schema();
  const auto found = std::find_if(schema.begin(), schema.end(),
                                  [name](const Key& key) { return key.name == name; });
  return found == schema.end() ? nullptr : &*found;
}

std::string why_wrong_type(const Key& key) {
  if (std::holds_alternative<double Config::*>(key.member)) return "not a number";
  if (std::holds_alternative<std::int64_t Config::*>(key.member)) return "not an integer";
  return "not a text in quotes";
}

std::string why_not_this(const Key& key, double value) {
  if (!std::isfinite(value)) return "not a finite number";
  const bool fits = value <= key.high && (key.low_is_open ? value > key.low : value >= key.low);
  return fits ? "" : "out of range";
}

std::string why_not_this(const Key& key, std::int64_t value) {
  return why_not_this(key, static_cast<double>(value));
}

std::string why_not_this(const Key& key, const std::string& text) {
  if (!key.choices.empty()) {
    const bool known = std::count(key.choices.begin(), key.choices.end(), text) > 0;
    return known ? "" : "not a choice";
  }
  // Neither NUL nor invalid UTF-8 would survive in a path or in the printed configuration.
  if (text.find('\0') != std::string::npos) return "has a NUL byte";
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(utf8_length(rest))) {
    if (utf8_length(rest) == 0) return "not UTF-8";
  }
  return "";
}

// Stores the value, or returns why the key may not have it. An integer is accepted where a decimal
// number is wanted, but not the reverse.
std::string store(Config& config, const Key& key, Value value) {
  return with_value(config, key, [&]<class Member>(Member& member) {
    if constexpr (std::is_same_v<Member, double>) {
      if (const auto* integer = std::get_if<std::int64_t>(&value)) {
        value = static_cast<double>(*integer);
      }
    }
    const auto* const fitting = std::get_if<Member>(&value);
    if (fitting == nullptr) return why_wrong_type(key);
    std::string why = why_not_this(key, *fitting);
    if (why.empty()) member = *fitting;
    return why;
  });
}

// The text of a flag as a value of its key's type. A text that is no number stays a text; store()
// then complains.
Value value_of_flag(const Key& key, const std::string& text) {
  if (std::holds_alternative<std::string Config::*>(key.member)) return text;
  // from_chars does not accept a plus.
  const bool has_plus = text.starts_with('+') && !text.starts_with("+-");
  const char* const begin = text.data() + (has_plus ? 1 : 0);
  const char* const end = text.data() + text.size();
  std::int64_t integer = 0;
  if (const auto r = std::from_chars(begin, end, integer); r.ec == std::errc() && r.ptr == end) {
    return integer;
  }
  double number = 0;
  if (const auto r = std::from_chars(begin, end, number); r.ec == std::errc() && r.ptr == end) {
    return number;
  }
  return text;
}

std::optional<Value> value_of_node(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return integer->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  return std::nullopt;
}

std::string kind_of_node(const toml::node& node) {
  if (node.is_table()) return "a table";
  if (node.is_array()) return "an array";
  if (node.is_boolean()) return "a truth value";
  return "a date or time";
}

std::string place(const std::string& source, toml::source_index line) {
  return fmt::format("{}:{}", source, line);
}

Complaint syntax_complaint(const std::string& source, const toml::parse_error& error) {
  constexpr std::string_view kRedefined = "cannot redefine existing ";
  const std::string_view why = error.description();
  const std::size_t at = why.find(kRedefined);
  const bool is_duplicate = at != std::string_view::npos;
  return {.what = is_duplicate ? "duplicate key" : "not TOML",
          .where = place(source, error.source().begin.line),
          .why = std::string(is_duplicate ? why.substr(at) : why),
          .remedy = is_duplicate ? "keep one of the two" : ""};
}

// Overwrites line `number` (from 1) with blanks; false if there was nothing to overwrite.
bool blank_line(std::string& text, toml::source_index number) {
  std::size_t begin = 0;
  for (toml::source_index line = 1; line < number; ++line) {
    begin = text.find('\n', begin);
    if (begin == std::string::npos) return false;
    ++begin;
  }
  const std::size_t end = std::min(text.find('\n', begin), text.size());
  const auto first = text.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = text.begin() + static_cast<std::ptrdiff_t>(end);
  if (std::all_of(first, last, [](char c) { return c == ' '; })) return false;
  std::fill(first, last, ' ');
  return true;
}

// toml++ stops at the first error. To find all errors, the line of each is blanked and the text is
// parsed again.
toml::table parse(std::string text, const std::string& source, std::vector<Complaint>& complaints) {
  for (int i = 0; i < kMaxSyntaxErrors; ++i) {
    try {
      return toml::parse(text);
    } catch (const toml::parse_error& error) {
      // A blanked line that fails again is part of something longer; more errors would only repeat
      // the first.
      const bool is_new = blank_line(text, error.source().begin.line);
      if (is_new || complaints.empty()) complaints.push_back(syntax_complaint(source, error));
      if (!is_new) break;
    }
  }
  return {};
}

Complaint unknown_key(const std::string& name, const toml::node& node) {
  std::vector<std::string> names;
  std::string remedy;
  for (const Key& key : config_schema()) {
    names.push_back(key.name);
    if (!key.alias.empty() && key.alias == "--" + name) {
      remedy = fmt::format("in a file it is called \"{}\"", key.name);
    }
  }
  if (node.is_table()) remedy = "keys stand at the top level, not in tables";
  if (remedy.empty()) remedy = did_you_mean(name, names);
  if (remedy.empty()) remedy = "ptb_dist --help lists them";
  return {.what = fmt::format("unknown key \"{}\"", escaped(name)), .remedy = remedy};
}

std::optional<Complaint> apply(Config& config, const Key& key, const toml::node& node) {
  const std::optional<Value> value = value_of_node(node);
  const std::string why = value ? store(config, key, *value) : why_wrong_type(key);
  if (why.empty()) return std::nullopt;
  return Complaint{.what = key.name,
                   .why = fmt::format("{} is {}", value ? shown(*value) : kind_of_node(node), why),
                   .remedy = "give " + key.allowed()};
}

void sort_origins(std::vector<Origin>& origins) {
  std::sort(origins.begin(), origins.end(), [](const Origin& a, const Origin& b) {
    return find_key(a.key) < find_key(b.key);  // places in the schema
  });
}

void read_toml(ResolvedConfig& config, const std::string& text, const std::string& source,
               std::vector<Complaint>& complaints) {
  const toml::table table = parse(text, source, complaints);
  std::vector<std::pair<toml::source_index, Complaint>> found;  // the table is in order of names
  for (const auto& [toml_key, node] : table) {
    const std::string name(toml_key.str());
    const Key* const key = find_key(name);
    std::optional<Complaint> complaint =
        key ? apply(config.values, *key, node) : unknown_key(name, node);
    const auto line = toml_key.source().begin.line;
    if (complaint) {
      complaint->where = place(source, line);
      found.emplace_back(line, std::move(*complaint));
    } else {
      config.origins.push_back({.key = name, .from = fs::path(source).filename().string()});
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [line, complaint] : found) complaints.push_back(std::move(complaint));
  sort_origins(config.origins);
}

void apply_flags(ResolvedConfig& config,
                 std::span<const std::pair<std::string, std::string>> overrides,
                 std::vector<Complaint>& complaints) {
  for (const auto& [name, text] : overrides) {
    const Key* const key = find_key(name);
    require(key != nullptr, "an override's key is in the schema");
    const Value value = value_of_flag(*key, text);
    const std::string why = store(config.values, *key, value);
    if (!why.empty()) {
      complaints.push_back({.what = key->flag(),
                            .why = fmt::format("{} is {}", shown(value), why),
                            .remedy = "give " + key->allowed()});
    }
    std::erase_if(config.origins, [&name](const Origin& o) { return o.key == name; });
    config.origins.push_back({.key = name, .from = "flag"});
  }
  sort_origins(config.origins);
}

std::vector<std::string> shipped_names() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(configs_folder(), ignored)) {
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path find_file(const std::string& name_or_file) {
  const bool is_file =
      name_or_file.ends_with(".toml") || name_or_file.find('/') != std::string::npos;
  if (is_file) return name_or_file;
  const std::vector<std::string> names = shipped_names();
  if (std::count(names.begin(), names.end(), name_or_file) > 0) {
    return configs_folder() / (name_or_file + ".toml");
  }
  const std::string hint = did_you_mean(name_or_file, names);
  throw Error(
      ExitCode::usage,
      {.what = "--config",
       .why = fmt::format("\"{}\" is neither a shipped configuration ({}) nor a .toml file",
                          escaped(name_or_file), fmt::join(names, ", ")),
       .remedy = hint.empty() ? "give one of these names, or a path that ends in .toml" : hint});
}

std::string read_file(const fs::path& path) {
  const auto refuse = [&path](const std::string& why, const std::string& remedy) {
    throw Error(ExitCode::usage,
                {.what = "--config", .where = path.string(), .why = why, .remedy = remedy});
  };
  const RegularFile file = open_regular(path);
  if (file.error_number != 0) refuse(file.refusal, "check the path");
  if (!file.refusal.empty()) refuse(file.refusal, "give a TOML file");
  if (file.bytes > kMaxFileBytes) {
    refuse(fmt::format("has {}, a configuration has at most {}", bytes_text(file.bytes),
                       bytes_text(kMaxFileBytes)),
           "give a TOML file");
  }
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  const std::int64_t read = read_all(file.descriptor, text);
  if (read < 0) refuse(std::generic_category().message(errno), "check the disk");
  text.resize(static_cast<std::size_t>(read));
  return text;
}

}  // namespace

std::string why_not_allowed(const Key& key, const Key::Value& value) {
  return std::visit([&key](const auto& it) { return why_not_this(key, it); }, value);
}

std::string shown(const Key::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return fmt::format("\"{}\"", escaped(*text));
  }
  return std::visit([](const auto& it) { return fmt::format("{}", it); }, value);
}

ResolvedConfig resolve_config(const std::string& name_or_file,
                              std::span<const std::pair<std::string, std::string>> overrides) {
  ResolvedConfig config{.name = fs::path(name_or_file).stem().string()};
  std::vector<Complaint> complaints;
  try {
    const fs::path path = find_file(name_or_file);
    if (path == name_or_file) config.file = name_or_file;
    read_toml(config, read_file(path), path.string(), complaints);
  } catch (const Error& error) {  // no such file; the flags are still checked
    for (const std::string& line : error.lines()) complaints.push_back({.what = line});
  }
  apply_flags(config, overrides, complaints);
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
  return config;
}

ResolvedConfig config_from_toml(const std::string& text, const std::string& name,
                                const std::string& source) {
  ResolvedConfig config{.name = name};
  std::vector<Complaint> complaints;
  read_toml(config, text, source, complaints);
  if (!complaints.empty()) throw Error(ExitCode::usage, std::move(complaints));
  return config;
}

std::string to_toml(const ResolvedConfig& config) {
  std::string out = fmt::format(
      "# ptb_dist, configuration \"{}\": run it again with --config FILE\n", escaped(config.name));
  std::string group;
  for (const Key& key : config_schema()) {
    if (key.group != group) out += fmt::format("\n# {}\n", key.group);
    group = key.group;
    const auto origin = std::find_if(config.origins.begin(), config.origins.end(),
                                     [&key](const Origin& o) { return o.key == key.name; });
    out += fmt::format(
        "{:<32}# {}{}{}\n", fmt::format("{} = {}", key.name, toml_value(config.values, key)),
        key.meaning, key.unit.empty() ? "" : fmt::format(" [{}]", key.unit),
        origin == config.origins.end() ? "" : fmt::format(" (from {})", escaped(origin->from)));
  }
  return out;
}

fs::path configs_folder() {
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  const fs::path installed =
      (program.parent_path() / PTB_DIST_INSTALLED_CONFIGS).lexically_normal();
  return !failure && fs::is_directory(installed, failure) ? installed
                                                          : fs::path(PTB_DIST_SOURCE_CONFIGS);
}

}  // namespace ptb
