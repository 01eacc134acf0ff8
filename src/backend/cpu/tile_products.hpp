// Products of bf16 in tiles (tiles.hpp), in our own layout of the operands.
//
// oneDNN 2.6 packs its right operand anew in every plain call, and copies of weights by a reorder
// that took 4.6 ms of a window of small. Here weights are packed in one pass over them for each
// direction, and what is used once, d_logits and d_z, in pieces that stay in the second cache.
// Measured on an Intel with AMX, CPU time of a window with one thread, both programs beside each
// other on a busy host: small 51.5 ms (oneDNN 55.5), medium 341 (488).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backend/cpu/products.hpp"
#include "backend/cpu/tiles.hpp"

namespace ptb {

// How parts are multiplied: amx::multiply, or by tests in plain arrays.
struct TileEngine {
  std::function<void(const tiles::Part&)> multiply;
  std::string arithmetic;  // "bf16 by amx_bf16"
};

// On `threads` of the calling process; results do not depend on their number. Error 69 if OpenMP
// gives fewer. Products of two activations take a right operand as it is stored, none transposed.
std::unique_ptr<Products> make_tile_products(TileEngine engine, int threads);

}  // namespace ptb
