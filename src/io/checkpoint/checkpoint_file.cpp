// From a file to a checkpoint that has been verified.
#include <algorithm>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "io/checkpoint/checkpoint_check.hpp"
#include "io/checkpoint/checkpoint_contents.hpp"
#include "io/checkpoint/checkpoint_packing.hpp"
#include "io/files/guarded.hpp"
#include "io/files/user_block.hpp"
#include "io/files/whole_file.hpp"
#include "io/hdf5/hdf5_image.hpp"
#include "io/hdf5/reals.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

Subject subject_of(const fs::path& path) {
  return {.code = ExitCode::bad_data,
          .what = "checkpoint",
          .where = path.string(),
          .remedy = "give another checkpoint"};
}

// The first check: nothing has parsed the bytes before it.
void check_digest(std::span<const std::byte> image, const std::string& stored,
                  const Subject& subject) {
  const std::string computed = digest_of_checkpoint(image);
  if (computed == stored) return;
  throw subject.error(fmt::format("digest mismatch (stored {}, computed {})", stored, computed));
}

// What HDF5 finds in the bytes, read in a child process.
CheckpointContents contents_of(std::span<const std::byte> image, const Subject& subject) {
  const auto read = [&] {
    const hdf5::Handle file = hdf5::open_image(image, subject);
    return packed(read_contents(file, image.size(), subject));
  };
  return unpacked(run_guarded(subject, GuardLimits::for_bytes(image.size()), read), subject);
}

}  // namespace

CheckpointFile::CheckpointFile(const fs::path& path) : path_(path) {
  const Subject subject = subject_of(path);
  const WholeFile file(path, subject);
  parse_user_block(file.head(kUserBlockBytes), file.bytes(), subject);  // before reading the rest
  image_ = file.all();
  const UserBlock block =
      parse_user_block(std::span(image_).first(kUserBlockBytes), file.bytes(), subject);
  check_digest(image_, block.digest, subject);
  digest_ = block.digest;

  CheckpointContents contents = contents_of(image_, subject);
  check_contents(contents, image_.size(), subject);
  info_ = std::move(contents.info);
  tensors_ = tensors_of(info_);
  places_ = std::move(contents.places);
  if (info_.progress.step != block.step) {
    throw subject.at("/progress")
        .error(fmt::format("step is {}, the file begins with step {}", info_.progress.step,
                           block.step));
  }
  for (std::size_t tensor = 0; tensor < places_.size(); ++tensor) {
    const auto& [name, shape] = tensors_[tensor];
    check_is_finite(stored(tensor), info_.real, shape, subject.at(name));
  }
}

void CheckpointFile::load_parameters(Backend& backend, Parameters& parameters) const {
  const ModelShape shape = info_.shape();
  require(shape.vocab_size == parameters.shape().vocab_size &&
              shape.hidden_size == parameters.shape().hidden_size &&
              shape.num_layers == parameters.shape().num_layers,
          "a checkpoint is loaded into a model of its shape");
  // tensors_ begins with the table of the parameters.
  for (std::size_t entry = 0; entry < parameters.table().entries().size(); ++entry) {
    const Tensor to = parameters.tensor(entry);
    backend.upload(to, bytes_of(entry, to.type()));
  }
  parameters.touch();
}

HostState CheckpointFile::state(ElementType real) const {
  HostState state;
  const std::size_t first = ParameterTable(info_.shape()).entries().size();
  for (std::size_t tensor = first; tensor < tensors_.size(); ++tensor) {
    const auto& [name, shape] = tensors_[tensor];
    state.push_back({.name = name, .shape = shape, .values = bytes_of(tensor, real)});
  }
  return state;
}

std::vector<double> CheckpointFile::values(const TensorName& tensor) const {
  const auto found = std::ranges::find(tensors_, tensor.name, &TensorName::name);
  require(found != tensors_.end(), "a checkpoint's tensor has one of its names");
  const auto bytes = bytes_of(static_cast<std::size_t>(found - tensors_.begin()), ElementType::f64);
  const auto* const begin = reinterpret_cast<const double*>(bytes.data());
  return {begin, begin + bytes.size() / sizeof(double)};
}

std::vector<std::byte> CheckpointFile::bytes_of(std::size_t tensor, ElementType real) const {
  const auto& [name, shape] = tensors_[tensor];
  std::vector<std::byte> values = converted(stored(tensor), info_.real, real);
  // A value that is finite in 64 bits may be infinite in 32.
  check_is_finite(values, real, shape, subject_of(path_).at(name));
  return values;
}

std::span<const std::byte> CheckpointFile::stored(std::size_t tensor) const {
  const std::int64_t elements = tensors_[tensor].shape.elements();
  return std::span(image_).subspan(static_cast<std::size_t>(places_[tensor]),
                                   static_cast<std::size_t>(elements) * size_of(info_.real));
}

void check_can_be_opened(const fs::path& path) { WholeFile(path, subject_of(path)); }

bool looks_like_a_checkpoint(const fs::path& path) {
  const std::string_view title = kUserBlockTitle;
  const RegularFile file = open_regular(path);
  std::string head(title.size(), '\0');
  return file.refusal.empty() && read_all(file.descriptor, head) > 0 && head == title;
}

}  // namespace ptb
