#include "ptb_dist/optim/sgd.hpp"

#include <algorithm>
#include <cmath>

namespace ptb {

double Schedule::at(int epoch) const {
  return learning_rate * std::pow(lr_decay, std::max(epoch + 1 - max_epoch, 0));
}

Sgd::Sgd(Backend& backend, double max_grad_norm)
    : backend_(backend),
      max_grad_norm_(max_grad_norm),
      norm_(backend.allocate(ElementType::f64, {1})),
      failed_(backend.allocate(ElementType::i32, {1})) {}

void Sgd::step(Parameters& parameters, const GradientView& gradient, const Tensor& loss) {
  backend_.run_segment({.owner = this}, [&] {
    backend_.gradient_norm({.gradient = gradient, .norm = norm_});
    backend_.clip_step({.gradient = gradient,
                        .embedding = parameters.weights().embedding,
                        .dense = parameters.dense(),
                        .norm = norm_,
                        .loss = loss,
                        .max_norm = max_grad_norm_,
                        .failed = failed_});
  });
  parameters.touch();
}

}  // namespace ptb
