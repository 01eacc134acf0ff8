// The parameters with which a run or a test begins, on every rank. Collective; every rank throws
// the same error (AgreedError).
#pragma once

#include <optional>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

// From config.init_from, which rank 0 reads, else random by config.seed. A checkpoint must be of
// the corpus' vocabulary (65) and of the same cell and forget_bias (2).
void set_initial_parameters(Session& session, const Config& config, const Corpus& corpus,
                            Backend& backend, Parameters& parameters);

// The parameters of root's file, sent to all ranks; the other ranks pass no file.
void set_parameters(Session& session, const std::optional<CheckpointFile>& file, Backend& backend,
                    Parameters& parameters);

}  // namespace ptb
