#include "io/hdf5/hdf5_parameters.hpp"

#include <vector>

#include "io/checkpoint/checkpoint_check.hpp"
#include "io/hdf5/hdf5_dataset.hpp"

namespace ptb {

// Writes one tensor at a time, so that there is no second copy of all.
void write_parameters(hid_t file, Backend& backend, const Parameters& parameters,
                      const Subject& subject) {
  const auto& entries = parameters.table().entries();
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const ParameterInfo& entry = entries[index];
    const Tensor from = parameters.tensor(index);
    std::vector<std::byte> values(from.bytes());
    backend.download(from, values);
    check_can_be_saved(values, from.type(), entry.shape, entry.name);
    hdf5::write_dataset(file, entry.name, from.type(), entry.shape, values, subject.at(entry.name));
  }
}

}  // namespace ptb
