// From a run's state to the bytes of a checkpoint.
#include <algorithm>

#include "io/checkpoint/checkpoint_check.hpp"
#include "io/checkpoint/checkpoint_contents.hpp"
#include "io/files/user_block.hpp"
#include "io/hdf5/hdf5_dataset.hpp"
#include "io/hdf5/hdf5_image.hpp"
#include "io/hdf5/hdf5_parameters.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

void write_state(hid_t file, const CheckpointInfo& info, const HostState& state,
                 const Subject& subject) {
  require(std::ranges::equal(state, info.state(), {}, &HostTensor::name, &StateInfo::name),
          "a state has the tensors of its table");
  for (const auto& [name, shape, values] : state) {
    require(values.size() == static_cast<std::size_t>(shape.elements()) * size_of(info.real),
            "a state is of the checkpoint's type");
    check_can_be_saved(values, info.real, shape, name);
    hdf5::write_dataset(file, name, info.real, shape, values, subject.at(name));
  }
}

void put_user_block(std::vector<std::byte>& image, const UserBlock& block) {
  const std::string text = text_of(block);
  std::ranges::copy(std::as_bytes(std::span(text)), image.begin());
}

}  // namespace

UnsealedCheckpoint checkpoint_image(const CheckpointInfo& info, const HostState& state,
                                    Backend& backend, const Parameters& parameters) {
  require(info.real == parameters.slab().type(), "a checkpoint has the parameters' type");
  const Subject subject{.code = ExitCode::missing,
                        .what = "building a checkpoint in memory",
                        .where = "step " + std::to_string(info.progress.step),
                        .remedy = "free some memory, or raise the limit (ulimit -v)"};
  try {
    const hdf5::Handle file = hdf5::create_in_memory(kUserBlockBytes, subject);
    write_contents(file, info, subject);
    write_parameters(file, backend, parameters, subject);
    write_state(file, info, state, subject);
    std::vector<std::byte> image = hdf5::image_of(file, kUserBlockBytes, subject);
    put_user_block(image,
                   {.bytes = static_cast<std::int64_t>(image.size()), .step = info.progress.step});
    return {std::move(image)};
  } catch (const std::bad_alloc&) {
    throw subject.error("there is not enough memory");
  }
}

std::vector<std::byte> sealed(UnsealedCheckpoint image) {
  const Subject subject{.code = ExitCode::internal, .what = "a checkpoint in memory"};
  std::vector<std::byte> bytes = std::move(image.bytes);
  UserBlock block = parse_user_block(std::span(bytes).first(kUserBlockBytes),
                                     static_cast<std::int64_t>(bytes.size()), subject);
  block.digest = digest_of_checkpoint(bytes);
  put_user_block(bytes, block);
  return bytes;
}

}  // namespace ptb
