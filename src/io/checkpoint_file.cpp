// From a file to a checkpoint that is believed.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "io/checkpoint_contents.hpp"
#include "io/digest.hpp"
#include "io/guarded.hpp"
#include "io/hdf5_dataset.hpp"
#include "io/hdf5_image.hpp"
#include "io/user_block.hpp"
#include "io/whole_file.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;
using hdf5::Subject;

constexpr const char* kWhat = "checkpoint";

Subject subject_of(const fs::path& path) {
  return {.code = ExitCode::bad_data,
          .what = kWhat,
          .where = path.string(),
          .remedy = "give another checkpoint"};
}

// Nothing else has looked at the bytes before.
void check_digest(std::span<const std::byte> image, const std::string& stored,
                  const Subject& subject) {
  const std::string computed = digest_of_checkpoint(image);
  if (computed == stored) return;
  throw subject.error(fmt::format("digest mismatch (stored {}, computed {})", stored, computed));
}

std::vector<CheckpointFile::TensorName> tensors_of(const CheckpointInfo& info) {
  std::vector<CheckpointFile::TensorName> result;
  const ParameterTable table(info.shape());
  for (const ParameterInfo& entry : table.entries()) result.push_back({entry.name, entry.shape});
  const Shape state{info.config.batch_size, info.config.hidden_size};  // [B,H]
  for (int layer = 0; layer < info.config.num_layers; ++layer) {
    for (const char which : {'h', 'c'}) result.push_back({state_name(layer, which), state});
  }
  return result;
}

std::vector<std::byte> values_of(hid_t file, const CheckpointFile::TensorName& tensor,
                                 const CheckpointInfo& info, ElementType real,
                                 const Subject& subject) {
  return hdf5::read_reals(file, tensor.name, tensor.shape, hdf5::plain(info.real), real,
                          subject.at(tensor.name));
}

// All that HDF5 will be asked of these bytes.
void examine(std::span<const std::byte> image, const Subject& subject) {
  const hdf5::Handle file = hdf5::open_image(image, subject);
  const CheckpointInfo info = read_contents(file, image.size(), subject);
  for (const auto& tensor : tensors_of(info)) values_of(file, tensor, info, info.real, subject);
}

}  // namespace

CheckpointFile::CheckpointFile(const fs::path& path) : path_(path) {
  const Subject subject = subject_of(path);
  WholeFile file(path, subject);
  const UserBlock block = parse_user_block(file.head(kUserBlockBytes), file.bytes(), subject);
  image_ = file.all();
  check_digest(image_, block.digest, subject);
  digest_ = block.digest;
  run_guarded(subject, GuardLimits::for_bytes(image_.size()), [&] { examine(image_, subject); });
  info_ = read_contents(hdf5::open_image(image_, subject), image_.size(), subject);
  if (info_.progress.step != block.step) {
    throw subject.at("/progress")
        .error(fmt::format("step is {}, the file begins with step {}", info_.progress.step,
                           block.step));
  }
}

void CheckpointFile::load_parameters(Backend& backend, Parameters& parameters) const {
  const ModelShape shape = info_.shape();
  require(shape.vocab_size == parameters.shape().vocab_size &&
              shape.hidden_size == parameters.shape().hidden_size &&
              shape.num_layers == parameters.shape().num_layers,
          "a checkpoint is loaded into a model of its shape");
  const Subject subject = subject_of(path_);
  const hdf5::Handle file = hdf5::open_image(image_, subject);
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const Tensor to = parameters.tensor(index);
    backend.upload(to, values_of(file, {entries[index].name, entries[index].shape}, info_,
                                 to.type(), subject));
  }
  parameters.touch();
}

HostState CheckpointFile::state(ElementType real) const {
  const Subject subject = subject_of(path_);
  const hdf5::Handle file = hdf5::open_image(image_, subject);
  const Shape shape{info_.config.batch_size, info_.config.hidden_size};  // [B,H]
  HostState state;
  for (int layer = 0; layer < info_.config.num_layers; ++layer) {
    for (const auto& [which, all] : {std::pair{'h', &state.h}, std::pair{'c', &state.c}}) {
      const std::vector<std::byte> values =
          values_of(file, {state_name(layer, which), shape}, info_, real, subject);
      all->insert(all->end(), values.begin(), values.end());
    }
  }
  return state;
}

std::vector<CheckpointFile::TensorName> CheckpointFile::tensors() const {
  return tensors_of(info_);
}

std::vector<double> CheckpointFile::values(const TensorName& tensor) const {
  const Subject subject = subject_of(path_);
  const hdf5::Handle file = hdf5::open_image(image_, subject);
  const std::vector<std::byte> bytes = values_of(file, tensor, info_, ElementType::f64, subject);
  const auto* const begin = reinterpret_cast<const double*>(bytes.data());
  return {begin, begin + tensor.shape.elements()};
}

bool looks_like_a_checkpoint(const fs::path& path) {
  const std::string_view title = kUserBlockTitle;
  const RegularFile file = open_regular(path);
  std::string head(title.size(), '\0');
  return file.refusal.empty() && read_all(file.descriptor, head) > 0 && head == title;
}

}  // namespace ptb
