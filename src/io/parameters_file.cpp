#include "ptb_dist/io/parameters_file.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "io/file.hpp"
#include "io/guarded.hpp"
#include "io/hdf5_dataset.hpp"
#include "io/hdf5_image.hpp"
#include "io/whole_file.hpp"
#include "ptb_dist/io/checkpoint.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;
using hdf5::Subject;

constexpr const char* kWhat = "parameter file";

Subject subject_of(const fs::path& path, const char* remedy) {
  return {.code = ExitCode::bad_data, .what = kWhat, .where = path.string(), .remedy = remedy};
}

// Gives `take` the values of each entry in turn, of the parameters' type and finite.
void read_entries(std::span<const std::byte> image, const fs::path& path,
                  const Parameters& parameters,
                  const std::function<void(std::size_t, std::span<const std::byte>)>& take) {
  const hdf5::Handle file = hdf5::open_image(image, subject_of(path, "give a complete HDF5 file"));
  const Subject subject = subject_of(path, "give a file made for this configuration");
  const ElementType real = parameters.slab().type();
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const auto& [name, shape, offset, starts_at_zero] = entries[index];
    take(index, hdf5::read_reals(file, name, shape, hdf5::any_reals(), real, subject.at(name)));
  }
}

// Memory for a child that reads: the chunks of a compressed file take less than their values.
GuardLimits limits_for(std::span<const std::byte> image, const Parameters& parameters) {
  return GuardLimits::for_bytes(image.size() + parameters.slab().bytes());
}

void check_shape(const ModelShape& found, const ModelShape& wanted, const fs::path& path) {
  const auto text = [](const ModelShape& shape) {
    return fmt::format("{} words, {} units and {} layers", shape.vocab_size, shape.hidden_size,
                       shape.num_layers);
  };
  if (text(found) == text(wanted)) return;
  throw subject_of(path, "give a file made for this configuration")
      .error(fmt::format("is of a model with {}, this one has {}", text(found), text(wanted)));
}

}  // namespace

void load_parameters(const fs::path& path, Backend& backend, Parameters& parameters) {
  if (looks_like_a_checkpoint(path)) {
    const CheckpointFile checkpoint(path);
    check_shape(checkpoint.info().shape(), parameters.shape(), path);
    checkpoint.load_parameters(backend, parameters);
    return;
  }
  const Subject subject = subject_of(path, "give an HDF5 file");
  const std::vector<std::byte> image = WholeFile(path, subject).all();
  run_guarded(subject, limits_for(image, parameters),
              [&] { read_entries(image, path, parameters, [](auto, auto) {}); });
  read_entries(image, path, parameters, [&](std::size_t index, std::span<const std::byte> values) {
    backend.upload(parameters.tensor(index), values);
  });
  parameters.touch();
}

void save_parameters(const fs::path& path, Backend& backend, const Parameters& parameters) {
  const Subject subject{.code = ExitCode::missing,
                        .what = "building a parameter file in memory",
                        .where = path.string(),
                        .remedy = "free some memory"};
  const hdf5::Handle file = hdf5::create_in_memory(0, subject);
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const Tensor from = parameters.tensor(index);
    std::vector<std::byte> values(from.bytes());
    backend.download(from, values);
    const auto& [name, shape, offset, starts_at_zero] = entries[index];
    hdf5::write_dataset(file, name, from.type(), shape, values, subject.at(name));
  }
  replace_file(kWhat, path, hdf5::image_of(file, 0, subject));
}

void check_can_save_parameters(const fs::path& path) { check_replaceable(kWhat, path); }

}  // namespace ptb
