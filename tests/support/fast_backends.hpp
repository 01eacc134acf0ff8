// The backends that tests compare with the reference: whatever this build and this machine have.
//
// PTB_DIST_TEST_BACKENDS, a comma-separated list, names those to test instead: each of them must
// then be there, but for the CPU's own bf16, which is a matter of the processor.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "ptb_dist/backend/backend.hpp"

namespace ptb::test {

struct FastBackend {
  std::string name{};  // for messages
  BackendOptions options{};
  // Half the spacing, at 1, of the inputs of its products where that is coarser than fp32's (all of
  // it, of TF32 on a GPU): what each input is wrong by, relatively, when it enters a product.
  double input_error = 0;
  bool is_portable = false;  // support/portable_products.hpp

  std::unique_ptr<Backend> make() const;
};

std::vector<FastBackend> fast_backends();

}  // namespace ptb::test
