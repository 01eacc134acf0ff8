#include "io/checkpoint/checkpoint_packing.hpp"

#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace ptb {
namespace {

// Both have the same functions, so that one list of members, below, serves both ways.
class Packer {
 public:
  // A number or a text.
  template <class Value>
  void value(const Value& value) {
    if constexpr (std::is_same_v<Value, std::string>) {
      text(value);
    } else {
      number(value);
    }
  }
  template <class Number>
  void number(const Number& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    number(value.size());
    bytes_ += value;
  }
  template <class Item>
  void size(const std::vector<Item>& items) {
    number(items.size());
  }

  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Unpacker {
 public:
  Unpacker(std::string_view rest, const Subject& subject) : rest_(rest), subject_(subject) {}

  template <class Value>
  void value(Value& value) {
    if constexpr (std::is_same_v<Value, std::string>) {
      text(value);
    } else {
      number(value);
    }
  }
  template <class Number>
  void number(Number& value) {
    std::memcpy(&value, cut(sizeof value).data(), sizeof value);
  }
  void text(std::string& value) {
    std::size_t length = 0;
    number(length);
    value = cut(length);
  }
  // Each item begins with a number of eight bytes.
  template <class Item>
  void size(std::vector<Item>& items) {
    std::size_t count = 0;
    number(count);
    if (count > rest_.size() / 8) fail();
    items.resize(count);
  }

  void check_is_at_end() const {
    if (!rest_.empty()) fail();
  }

 private:
  std::string_view cut(std::size_t length) {
    if (length > rest_.size()) fail();
    const std::string_view part = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return part;
  }
  [[noreturn]] void fail() const { throw subject_.error("reading it gives no contents"); }

  std::string_view rest_;
  const Subject& subject_;
};

template <class Way>
void pass_config(Way& way, Config& config, std::span<const Key> keys) {
  for (const Key& key : keys) {
    if (key.is_mathematical) with_value(config, key, [&way](auto& value) { way.value(value); });
  }
}

template <class Way>
void pass_progress(Way& way, Progress& progress) {
  way.number(progress.epoch);
  way.number(progress.window);
  way.number(progress.step);
  way.number(progress.cross_entropy);
  way.size(progress.history);
  for (EpochResult& epoch : progress.history) way.number(epoch);
}

template <class Way>
void pass(Way& way, CheckpointContents& contents, std::span<const Key> keys) {
  CheckpointInfo& info = contents.info;
  std::uint8_t is_wide = info.real == ElementType::f64 ? 1 : 0;
  pass_config(way, info.config, keys);
  pass_progress(way, info.progress);
  way.size(info.corpus.words);
  for (std::string& word : info.corpus.words) way.text(word);
  way.number(info.corpus.tokens);
  for (std::string& digest : info.corpus.digests) way.text(digest);
  way.size(info.exact_class);
  for (auto& [name, value] : info.exact_class) {
    way.text(name);
    way.text(value);
  }
  way.number(is_wide);
  info.real = is_wide != 0 ? ElementType::f64 : ElementType::f32;
  way.size(contents.places);
  for (std::int64_t& place : contents.places) way.number(place);
}

}  // namespace

std::string packed(CheckpointContents contents, std::span<const Key> keys) {
  Packer packer;
  pass(packer, contents, keys);
  return packer.take();
}

CheckpointContents unpacked(const std::string& bytes, const Subject& subject,
                            std::span<const Key> keys) {
  CheckpointContents contents;
  Unpacker unpacker(bytes, subject);
  pass(unpacker, contents, keys);
  unpacker.check_is_at_end();
  return contents;
}

}  // namespace ptb
