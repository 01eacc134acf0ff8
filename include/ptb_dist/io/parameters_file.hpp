// Parameters alone in an HDF5 file, for comparing and exchanging models with other tools.
//
// Datasets: /parameters/embedding [V,H], /parameters/<cell>/<l>/kernel [2H,G·H] (rows: x then h;
// columns: the cell's gates in their order), /parameters/<cell>/<l>/bias [G·H] and for a gru
// recurrent_bias [G·H], /parameters/softmax/weight [H,V], /parameters/softmax/bias [V]; 32- or
// 64-bit IEEE floats of any byte order. h5py and h5ls read it.
#pragma once

#include <filesystem>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

// Fills the slab of `parameters` and touches it. Other content of the file is ignored. The file may
// be a checkpoint, if it is good as a whole. Error 65 if the file is no HDF5 file, or if an object
// is missing, has another shape or type, is stored in a way that could reach outside the file, or
// is not finite (the message names it); 74 if the file cannot be opened. After an error the
// parameters are partly overwritten.
void load_parameters(const std::filesystem::path& path, Backend& backend, Parameters& parameters);
// The parameters of a checkpoint. Error 65 if its model has another shape.
void load_parameters(const CheckpointFile& checkpoint, Backend& backend, Parameters& parameters);

// The file is complete or absent: it is written beside the target and renamed into place. The same
// parameters give the same bytes. Error 74; 69 if memory does not suffice to build it; 76 names a
// value that is not finite, because such a file could not be read again.
void save_parameters(const std::filesystem::path& path, Backend& backend,
                     const Parameters& parameters);
// Called before training: error 74 if no file can be saved at `path`.
void check_can_save_parameters(const std::filesystem::path& path);

}  // namespace ptb
