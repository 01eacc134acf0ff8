// The CPU's own inner loops, each on one thread over plain arrays: whatever is vectorised lives
// here.
//
// loops.cpp compiles each of them for several instruction sets; the machine's is picked at program
// start, and instruction_set() names it. How work is dealt to threads is decided by the operations.
// Arrays of one call do not overlap, except where the same pointer is given twice.
#pragma once

#include <cstdint>

#include "backend/cpu/bf16.hpp"
#include "ptb_dist/base/random.hpp"

namespace ptb::loops {

// "avx512", "avx2" or "baseline".
const char* instruction_set();

// One row of H cells forward: z [4H] (i j f o, still without the bias [4H]) becomes the
// activations; c and h [H] are written.
void lstm_forward(std::int64_t H, float forget_bias, const float* bias, float* z,
                  const float* c_before, float* c, float* h);

// Its backward mate: gates [4H] hold the activations and become the gradients of z; d_c [H], the
// gradient of c, becomes that of c_before. d_h [H] is the gradient of h.
void lstm_backward(std::int64_t H, float* gates, const float* c_before, const float* c,
                   const float* d_h, float* d_c);

// The same of a GRU. x [3H] (r z n) and s [3H] come without their biases. x becomes the
// activations; of s the part of n gets its bias, the rest is left as it came. h [H] is written.
void gru_forward(std::int64_t H, const float* bias, const float* recurrent_bias, float* x, float* s,
                 const float* h_before, float* h);
// x and s become the gradients of both shares. d_h [H], the gradient of h, becomes that of h_before
// but for what comes back through the product with s.
void gru_backward(std::int64_t H, float* x, float* s, const float* h_before, float* d_h);

// The same of a tanh RNN: z [H] without its bias becomes h, which is written to h [H] as well.
void rnn_forward(std::int64_t H, const float* bias, float* z, float* h);
// z [H] holds h and becomes the gradient of z.
void rnn_backward(std::int64_t H, float* z, const float* d_h);

// Cross-entropy of softmax(logits + bias) against `target`, over V words. If scale is not 0, logits
// become scale · (softmax - onehot).
double softmax_row(std::int64_t V, float scale, const float* bias, std::int32_t target,
                   float* logits);

// keep[k] for the first n units: 1 where dropout keeps the unit. Unit 4·quad + i has word i of the
// block of dropout_words(seed, at, quad).
void keep_masks(std::int64_t n, std::uint64_t seed, const DropoutPosition& at,
                std::uint64_t threshold, std::uint8_t* keep);
// to[k] = keep[k] ? from[k] · scale : 0
void drop(std::int64_t n, float scale, const std::uint8_t* keep, const float* from, float* to);
// to[k] += keep[k] ? from[k] · scale : 0
void add_dropped(std::int64_t n, float scale, const std::uint8_t* keep, const float* from,
                 float* to);
// to[k] += factor · from[k]
void add_scaled(std::int64_t n, float factor, const float* from, float* to);
// sums[k] += x[k]
void add_to_sums(std::int64_t n, const float* x, double* sums);
// One row of a bf16 matrix: to[k] = bf16(from[k]), and zeros up to padded(n).
void convert(std::int64_t n, const float* from, Bf16* to);

// Tiles of 32 x 16 for tiles.hpp, from 32 rows of a matrix side by side, one for each 16 columns:
// to[tile · tile_elements][r][c][i] = bf16(from[2·r + i][16·tile + c]) of 16 x 16 x 2, with zeros
// from `rows` and `columns` on. Rows of `from` are `stride` elements apart.
void pack_tiles(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                Bf16* to, std::int64_t tile_elements);
void pack_tiles(const Bf16* from, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                Bf16* to, std::int64_t tile_elements);
// One of the transpose, `from` being [columns, rows]: to[r][c][i] = bf16(from[c][2·r + i]).
void pack_transposed_tile(const float* from, std::int64_t stride, std::int64_t rows,
                          std::int64_t columns, Bf16* to);
// to[c][r] = from[r][c]; rows are so many elements apart.
void transpose(const Bf16* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns,
               Bf16* to, std::int64_t to_stride);
// Σ x², in double.
double sum_of_squares(std::int64_t n, const float* x);

}  // namespace ptb::loops
