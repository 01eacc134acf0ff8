#include "ptb_dist/io/parameters_file.hpp"

#include <fmt/format.h>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "io/files/file.hpp"
#include "io/files/guarded.hpp"
#include "io/files/whole_file.hpp"
#include "io/hdf5/hdf5_dataset.hpp"
#include "io/hdf5/hdf5_image.hpp"
#include "io/hdf5/hdf5_parameters.hpp"
#include "io/hdf5/reals.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "parameter file";
constexpr const char* kMadeForThis = "give a file made for this configuration";

Subject subject_of(const fs::path& path, const char* remedy) {
  return {.code = ExitCode::bad_data, .what = kWhat, .where = path.string(), .remedy = remedy};
}

// The bytes of an entry within the bytes of the slab.
template <class Byte>
std::span<Byte> part_of(std::span<Byte> slab, const Parameters& parameters, std::size_t entry) {
  const auto offset = static_cast<std::size_t>(parameters.table().entries()[entry].offset);
  return slab.subspan(offset * size_of(parameters.slab().type()), parameters.tensor(entry).bytes());
}

// The values of all entries in the layout of the slab. Runs in a child.
std::string read_slab(std::span<const std::byte> image, const fs::path& path,
                      const Parameters& parameters) {
  const hdf5::Handle file = hdf5::open_image(image, subject_of(path, "give a complete HDF5 file"));
  const Subject subject = subject_of(path, kMadeForThis);
  std::string slab(parameters.slab().bytes(), '\0');
  for (std::size_t index = 0; index < parameters.table().entries().size(); ++index) {
    const ParameterInfo& entry = parameters.table().entries()[index];
    const Subject of_entry = subject.at(entry.name);
    const hdf5::Handle dataset = hdf5::open_object(file, entry.name, H5I_DATASET, of_entry);
    hdf5::check_dataset(dataset, entry.shape, hdf5::any_reals(), of_entry);
    hdf5::read_dataset(dataset, parameters.slab().type(),
                       part_of(std::as_writable_bytes(std::span(slab)), parameters, index),
                       of_entry);
  }
  return slab;
}

void check_shape(const ModelShape& found, const ModelShape& wanted, const fs::path& path) {
  const auto text = [](const ModelShape& shape) {
    return fmt::format("{} words, {} units and {} {} layers", shape.vocab_size, shape.hidden_size,
                       shape.num_layers, traits_of(shape.cell.kind).name);
  };
  if (text(found) == text(wanted)) return;
  throw subject_of(path, kMadeForThis)
      .error(fmt::format("is of a model with {}, this one has {}", text(found), text(wanted)));
}

}  // namespace

void load_parameters(const fs::path& path, Backend& backend, Parameters& parameters) {
  if (looks_like_a_checkpoint(path)) {
    load_parameters(CheckpointFile(path), backend, parameters);
    return;
  }
  const Subject subject = subject_of(path, "give an HDF5 file");
  const std::vector<std::byte> image = WholeFile(path, subject).all();
  const std::size_t memory = image.size() + 2 * parameters.slab().bytes();
  const std::string slab = run_guarded(subject, GuardLimits::for_bytes(memory),
                                       [&] { return read_slab(image, path, parameters); });
  if (slab.size() != parameters.slab().bytes()) throw subject.error("reading it gives too little");
  for (std::size_t index = 0; index < parameters.table().entries().size(); ++index) {
    const Tensor to = parameters.tensor(index);
    const auto values = part_of(std::as_bytes(std::span(slab)), parameters, index);
    check_is_finite(values, to.type(), to.shape(),
                    subject_of(path, kMadeForThis).at(parameters.table().entries()[index].name));
    backend.upload(to, values);
  }
  parameters.touch();
}

void load_parameters(const CheckpointFile& checkpoint, Backend& backend, Parameters& parameters) {
  check_shape(checkpoint.info().shape(), parameters.shape(), checkpoint.path());
  checkpoint.load_parameters(backend, parameters);
}

void save_parameters(const fs::path& path, Backend& backend, const Parameters& parameters) {
  const Subject subject{.code = ExitCode::missing,
                        .what = "building a parameter file in memory",
                        .where = path.string(),
                        .remedy = "free some memory, or raise the limit (ulimit -v)"};
  const hdf5::Handle file = hdf5::create_in_memory(0, subject);
  write_parameters(file, backend, parameters, subject);
  replace_file(kWhat, path, hdf5::image_of(file, 0, subject));
}

void check_can_save_parameters(const fs::path& path) { check_replaceable(kWhat, path); }

}  // namespace ptb
