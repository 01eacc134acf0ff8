// How a value becomes bytes and comes back, to cross ranks, or a pipe, between processes of one
// build: numbers are as they lie in memory.
//
// Carried are numbers, enumerations, texts, std::vector, array, pair and optional of what is
// carried, and each struct that lists its members once:
//
//   struct Progress {
//     int epoch = 0;
//     std::vector<double> losses{};
//
//     static auto members(auto& self) {
//       auto& [epoch, losses] = self;  // does not compile if a member is missing
//       return std::tie(epoch, losses);
//     }
//   };
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace ptb {

template <class T>
concept Plain = std::is_arithmetic_v<T> || std::is_enum_v<T>;
// Texts and vectors whose items lie in memory as they travel.
template <class T>
concept IsPlainArray = std::is_same_v<T, std::string> ||
    (Plain<typename T::value_type>&& std::is_same_v<T, std::vector<typename T::value_type>>);
template <class T>
concept ListsMembers = requires(T& value) {
  T::members(value);
};

// Packer and Unpacker are called alike, so that one function with a list of values serves both
// ways: archive(a, b, c).
class Packer {
 public:
  template <class... Values>
  void operator()(const Values&... values) {
    (put(values), ...);
  }
  std::string take() { return std::move(bytes_); }

 private:
  void put_raw(const void* from, std::size_t bytes) {
    bytes_.append(static_cast<const char*>(from), bytes);
  }
  template <Plain T>
  void put(const T& value) {
    put_raw(&value, sizeof value);
  }
  void put(const std::string& text) {
    put(text.size());
    bytes_ += text;
  }
  template <class T>
  void put(const std::vector<T>& items) {
    put(items.size());
    if constexpr (Plain<T>) {
      put_raw(items.data(), items.size() * sizeof(T));
    } else {
      for (const T& item : items) put(item);
    }
  }
  template <class T, std::size_t N>
  void put(const std::array<T, N>& items) {
    for (const T& item : items) put(item);
  }
  template <class First, class Second>
  void put(const std::pair<First, Second>& both) {
    (*this)(both.first, both.second);
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <ListsMembers T>
  void put(const T& value) {
    std::apply(*this, T::members(value));
  }

  std::string bytes_;
};

// The bytes may be anything: what is not there is left as it was, and no more memory is taken than
// a small multiple of theirs.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : rest_(bytes) {}

  template <class... Values>
  void operator()(Values&... values) {
    (get(values), ...);
  }
  // Whether all that was asked for was there, and nothing else.
  bool is_complete() const { return is_good_ && rest_.empty(); }

 private:
  // The next bytes; empty, now and from then on, where there are fewer.
  std::string_view cut(std::size_t bytes) {
    is_good_ = is_good_ && bytes <= rest_.size();
    if (!is_good_) return {};
    const std::string_view part = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return part;
  }
  template <Plain T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {  // another byte than 0 and 1 would be no bool
      std::uint8_t byte = value ? 1 : 0;
      get(byte);
      value = byte != 0;
    } else {
      const std::string_view bytes = cut(sizeof value);
      if (is_good_) std::memcpy(&value, bytes.data(), sizeof value);
    }
  }
  void get(std::string& text) {
    std::size_t length = 0;
    get(length);
    text = cut(length);
  }
  template <class T>
  void get(std::vector<T>& items) {
    std::size_t count = 0;
    get(count);
    items.clear();
    if constexpr (Plain<T>) {
      is_good_ = is_good_ && count <= rest_.size() / sizeof(T);
      if (!is_good_) return;
      items.resize(count);
      if (count > 0) std::memcpy(items.data(), cut(count * sizeof(T)).data(), count * sizeof(T));
    } else {
      while (is_good_ && items.size() < count && !rest_.empty()) get(items.emplace_back());
      is_good_ = is_good_ && items.size() == count;
    }
  }
  template <class T, std::size_t N>
  void get(std::array<T, N>& items) {
    for (T& item : items) get(item);
  }
  template <class First, class Second>
  void get(std::pair<First, Second>& both) {
    (*this)(both.first, both.second);
  }
  template <class T>
  void get(std::optional<T>& value) {
    bool is_there = false;
    get(is_there);
    value.reset();
    if (is_there) get(value.emplace());
  }
  template <ListsMembers T>
  void get(T& value) {
    std::apply(*this, T::members(value));
  }

  std::string_view rest_;
  bool is_good_ = true;
};

template <class T>
std::string to_bytes(const T& value) {
  Packer packer;
  packer(value);
  return packer.take();
}

// Nothing unless the bytes are those of such a value.
template <class T>
std::optional<T> from_bytes(std::string_view bytes) {
  std::optional<T> value(std::in_place);
  Unpacker unpacker(bytes);
  unpacker(*value);
  if (!unpacker.is_complete()) value.reset();
  return value;
}

}  // namespace ptb
