// The parameters as HDF5 datasets, which checkpoints and parameter files have in common.
#pragma once

#include "io/hdf5/hdf5_api.hpp"
#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

// All entries of the table, by their names. The subject's error if HDF5 fails; 76 names a value
// that is not finite, which could not be read again.
void write_parameters(hid_t file, Backend& backend, const Parameters& parameters,
                      const Subject& subject);

}  // namespace ptb
