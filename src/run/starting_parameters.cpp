#include "ptb_dist/run/starting_parameters.hpp"

#include <span>
#include <vector>

#include "ptb_dist/io/parameters_file.hpp"
#include "ptb_dist/run/checkpoint_fit.hpp"

namespace ptb {
namespace {

// Sends root's parameters to every rank.
void share_parameters(Session& session, Backend& backend, Parameters& parameters) {
  std::vector<std::byte> values(parameters.slab().bytes());
  backend.download(parameters.slab(), values);
  session.broadcast(std::span(values));
  backend.upload(parameters.slab(), values);
  parameters.touch();
}

}  // namespace

void set_initial_parameters(Session& session, const Config& config, const Corpus& corpus,
                            Backend& backend, Parameters& parameters) {
  if (config.init_from.empty()) {
    parameters.initialise(backend, config.init_scale, static_cast<std::uint64_t>(config.seed));
    return;
  }
  session.on_root([&] {
    if (!looks_like_a_checkpoint(config.init_from)) {
      return load_parameters(config.init_from, backend, parameters);
    }
    const CheckpointFile file(config.init_from);
    check_model(file, config, corpus);
    load_parameters(file, backend, parameters);
  });
  share_parameters(session, backend, parameters);
}

void set_parameters(Session& session, const std::optional<CheckpointFile>& file, Backend& backend,
                    Parameters& parameters) {
  session.on_root([&] { file->load_parameters(backend, parameters); });
  share_parameters(session, backend, parameters);
}

}  // namespace ptb
