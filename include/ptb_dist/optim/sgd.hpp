// Plain SGD with a global-norm clip, and the tutorial's learning-rate schedule.
#pragma once

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

struct Schedule {
  double learning_rate = 1.0;
  double lr_decay = 1.0;
  int max_epoch = 1;  // epochs at the full rate

  // learning_rate · lr_decay^max(epoch + 1 - max_epoch, 0), epoch from 0.
  double at(int epoch) const;
};

class Sgd {
 public:
  Sgd(Backend& backend, double max_grad_norm);

  // Clips the gradient (already summed over ranks) to max_grad_norm and updates the parameters with
  // StepState's learning rate; raises their version. If `loss` ([1] f64) or the norm is not finite,
  // neither this call nor a later one updates anything, and failed() is 1. It is a captured
  // segment, so it must always be given the same parameters, gradient and loss.
  void step(Parameters& parameters, const GradientView& gradient, const Tensor& loss);

  const Tensor& norm() const { return norm_; }      // [1] f64, of the last step, before the clip
  const Tensor& failed() const { return failed_; }  // [1] i32

 private:
  Backend& backend_;
  double max_grad_norm_;
  Tensor norm_;
  Tensor failed_;
};

}  // namespace ptb
