#include "io/checkpoint/checkpoint_packing.hpp"

#include "ptb_dist/base/archive.hpp"

namespace ptb {
namespace {

// `archive` is a Packer or an Unpacker.
void pass(auto& archive, CheckpointContents& contents, std::span<const Key> keys) {
  CheckpointInfo& info = contents.info;
  for (const Key& key : keys) {
    if (!key.is_mathematical) continue;
    with_value(info.config, key, [&archive](auto& value) { archive(value); });
  }
  bool is_wide = info.real == ElementType::f64;
  archive(info.progress, info.corpus, info.exact_class, is_wide, contents.places);
  info.real = is_wide ? ElementType::f64 : ElementType::f32;
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
  Unpacker unpacker(bytes);
  pass(unpacker, contents, keys);
  if (!unpacker.is_complete()) throw subject.error("reading it gives no contents");
  return contents;
}

}  // namespace ptb
