// The parameters as HDF5 datasets, the same in checkpoints and parameter files.
#pragma once

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

// Writes all entries of the table, by name. The subject's error if HDF5 fails; 76 names a value
// that is not finite, because such a file could not be read again.
void write_parameters(hid_t file, Backend& backend, const Parameters& parameters,
                      const Subject& subject);

}  // namespace ptb
