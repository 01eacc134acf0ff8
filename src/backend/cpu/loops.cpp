#include "backend/cpu/loops.hpp"

#include <cmath>

#include "ptb_dist/backend/cell_math.hpp"

// Compiles a function for AVX-512, for AVX2 with FMA, and for any x86-64; the loader picks the best
// one that this machine has. Elsewhere the compiler's own target serves. The clones inline the
// formulas of cell_math.hpp, so that no code with wider instructions can be shared with other
// files.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define PTB_VECTORISED [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#else
#define PTB_VECTORISED
#endif

namespace ptb::loops {

const char* instruction_set() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) return "avx512";
  if (__builtin_cpu_supports("x86-64-v3")) return "avx2";
#endif
  return "baseline";
}

PTB_VECTORISED void lstm_forward(std::int64_t H, float forget_bias, const float* bias, float* z,
                                 const float* c_before, float* c, float* h) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) {
    const cell::LstmUnit<float> unit =
        cell::lstm_forward(z[k] + bias[k], z[H + k] + bias[H + k], z[2 * H + k] + bias[2 * H + k],
                           z[3 * H + k] + bias[3 * H + k], c_before[k], forget_bias);
    z[k] = unit.i;
    z[H + k] = unit.j;
    z[2 * H + k] = unit.f;
    z[3 * H + k] = unit.o;
    c[k] = unit.c;
    h[k] = unit.h;
  }
}

PTB_VECTORISED void lstm_backward(std::int64_t H, float* gates, const float* c_before,
                                  const float* c, const float* d_h, float* d_c) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) {
    const cell::LstmUnitGradient<float> d =
        cell::lstm_backward(gates[k], gates[H + k], gates[2 * H + k], gates[3 * H + k], c_before[k],
                            c[k], d_h[k], d_c[k]);
    gates[k] = d.zi;
    gates[H + k] = d.zj;
    gates[2 * H + k] = d.zf;
    gates[3 * H + k] = d.zo;
    d_c[k] = d.c_before;
  }
}

PTB_VECTORISED void gru_forward(std::int64_t H, const float* bias, const float* recurrent_bias,
                                float* x, float* s, const float* h_before, float* h) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) {
    const float sn = s[2 * H + k] + recurrent_bias[2 * H + k];
    const cell::GruUnit<float> unit = cell::gru_forward(
        x[k] + bias[k], x[H + k] + bias[H + k], x[2 * H + k] + bias[2 * H + k],
        s[k] + recurrent_bias[k], s[H + k] + recurrent_bias[H + k], sn, h_before[k]);
    x[k] = unit.r;
    x[H + k] = unit.z;
    x[2 * H + k] = unit.n;
    s[2 * H + k] = sn;
    h[k] = unit.h;
  }
}

PTB_VECTORISED void gru_backward(std::int64_t H, float* x, float* s, const float* h_before,
                                 float* d_h) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) {
    const cell::GruUnitGradient<float> d =
        cell::gru_backward(x[k], x[H + k], x[2 * H + k], s[2 * H + k], h_before[k], d_h[k]);
    x[k] = d.xr;
    x[H + k] = d.xz;
    x[2 * H + k] = d.xn;
    s[k] = d.xr;
    s[H + k] = d.xz;
    s[2 * H + k] = d.sn;
    d_h[k] = d.h_before;
  }
}

PTB_VECTORISED void rnn_forward(std::int64_t H, const float* bias, float* z, float* h) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) {
    z[k] = cell::rnn_forward(z[k] + bias[k]);
    h[k] = z[k];
  }
}

PTB_VECTORISED void rnn_backward(std::int64_t H, float* z, const float* d_h) {
#pragma omp simd
  for (std::int64_t k = 0; k < H; ++k) z[k] = cell::rnn_backward(z[k], d_h[k]);
}

// The largest logit is subtracted before the exponential, so nothing overflows; a NaN anywhere
// makes the sum, and so the loss, NaN.
PTB_VECTORISED double softmax_row(std::int64_t V, float scale, const float* bias,
                                  std::int32_t target, float* logits) {
  float largest = logits[0] + bias[0];
#pragma omp simd reduction(max : largest)
  for (std::int64_t v = 0; v < V; ++v) {
    logits[v] += bias[v];
    largest = logits[v] > largest ? logits[v] : largest;  // std::max keeps GCC from vectorising
  }
  const float target_logit = logits[target];
  float sum = 0;
  if (scale == 0) {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = 0; v < V; ++v) sum += cell::exponential(logits[v] - largest);
  } else {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = 0; v < V; ++v) {
      logits[v] = cell::exponential(logits[v] - largest);
      sum += logits[v];
    }
    const float factor = scale / sum;
#pragma omp simd
    for (std::int64_t v = 0; v < V; ++v) logits[v] *= factor;
    logits[target] -= scale;
  }
  return std::log(static_cast<double>(sum)) + static_cast<double>(largest) -
         static_cast<double>(target_logit);
}

PTB_VECTORISED void keep_masks(std::int64_t n, std::uint64_t seed, const DropoutPosition& at,
                               std::uint64_t threshold, std::uint8_t* keep) {
  const std::int64_t whole = n / 4;
  for (std::int64_t quad = 0; quad < whole; ++quad) {
    const RandomBlock words = dropout_words(seed, at, static_cast<std::uint32_t>(quad));
    for (std::size_t k = 0; k < 4; ++k) {
      keep[4 * quad + static_cast<std::int64_t>(k)] = words[k] < threshold;
    }
  }
  if (4 * whole == n) return;
  const RandomBlock words = dropout_words(seed, at, static_cast<std::uint32_t>(whole));
  for (std::int64_t k = 4 * whole; k < n; ++k) {
    keep[k] = words[static_cast<std::size_t>(k - 4 * whole)] < threshold;
  }
}

PTB_VECTORISED void drop(std::int64_t n, float scale, const std::uint8_t* keep, const float* from,
                         float* to) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) to[k] = cell::dropped(from[k], keep[k], scale);
}

PTB_VECTORISED void add_dropped(std::int64_t n, float scale, const std::uint8_t* keep,
                                const float* from, float* to) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) to[k] += cell::dropped(from[k], keep[k], scale);
}

PTB_VECTORISED void add_scaled(std::int64_t n, float factor, const float* from, float* to) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) to[k] += factor * from[k];
}

PTB_VECTORISED void add_to_sums(std::int64_t n, const float* x, double* sums) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) sums[k] += static_cast<double>(x[k]);
}

PTB_VECTORISED void convert(std::int64_t n, const float* from, Bf16* to) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) to[k] = to_bf16(from[k]);
  for (std::int64_t k = n; k < padded(n); ++k) to[k] = 0;
}

// Row pairs across all tiles, as they lie in memory: tile by tile, every line of a matrix with long
// rows is on another page, where nothing fetches it ahead. Whole tiles, which nearly all are, have
// loops of fixed length. Inlined into the variants below.
namespace {

inline Bf16 rounded(float x) { return to_bf16(x); }
inline Bf16 rounded(Bf16 x) { return x; }

template <class From>
[[gnu::always_inline]] inline void pack(const From* from, std::int64_t stride, std::int64_t rows,
                                        std::int64_t columns, Bf16* to,
                                        std::int64_t tile_elements) {
  constexpr std::int64_t kColumns = 16;
  for (std::int64_t r = 0; r < 32; r += 2, from += 2 * stride, to += 2 * kColumns) {
    for (std::int64_t first = 0; first < columns; first += kColumns) {
      Bf16* const pairs = to + first / kColumns * tile_elements;
      const From *even = from + first, *odd = even + stride;
      if (r + 1 < rows && first + kColumns <= columns) {
#pragma omp simd
        for (std::int64_t c = 0; c < kColumns; ++c) {
          pairs[2 * c] = rounded(even[c]);
          pairs[2 * c + 1] = rounded(odd[c]);
        }
        continue;
      }
      for (std::int64_t c = 0; c < kColumns; ++c) {
        const bool is_there = first + c < columns;
        pairs[2 * c] = is_there && r < rows ? rounded(even[c]) : Bf16{0};
        pairs[2 * c + 1] = is_there && r + 1 < rows ? rounded(odd[c]) : Bf16{0};
      }
    }
  }
}

}  // namespace

PTB_VECTORISED void pack_tiles(const float* from, std::int64_t stride, std::int64_t rows,
                               std::int64_t columns, Bf16* to, std::int64_t tile_elements) {
  pack(from, stride, rows, columns, to, tile_elements);
}

PTB_VECTORISED void pack_tiles(const Bf16* from, std::int64_t stride, std::int64_t rows,
                               std::int64_t columns, Bf16* to, std::int64_t tile_elements) {
  pack(from, stride, rows, columns, to, tile_elements);
}

PTB_VECTORISED void pack_transposed_tile(const float* from, std::int64_t stride, std::int64_t rows,
                                         std::int64_t columns, Bf16* to) {
  constexpr std::int64_t kRows = 32, kColumns = 16;
  Bf16 lines[kColumns][kRows];  // converted along the rows of `from`, where vectors can
  for (std::int64_t c = 0; c < kColumns; ++c) {
    const std::int64_t there = c < columns ? (rows < kRows ? rows : kRows) : 0;
    if (there == kRows) {
#pragma omp simd
      for (std::int64_t r = 0; r < kRows; ++r) lines[c][r] = to_bf16(from[c * stride + r]);
    } else {
      for (std::int64_t r = 0; r < kRows; ++r) {
        lines[c][r] = r < there ? to_bf16(from[c * stride + r]) : Bf16{0};
      }
    }
  }
  for (std::int64_t r = 0; r < kRows; r += 2) {
    for (std::int64_t c = 0; c < kColumns; ++c) {
      to[r * kColumns + 2 * c] = lines[c][r];
      to[r * kColumns + 2 * c + 1] = lines[c][r + 1];
    }
  }
}

// In blocks whose lines stay in the first cache.
PTB_VECTORISED void transpose(const Bf16* from, std::int64_t from_stride, std::int64_t rows,
                              std::int64_t columns, Bf16* to, std::int64_t to_stride) {
  constexpr std::int64_t kBlock = 32;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    const std::int64_t r1 = r0 + kBlock < rows ? r0 + kBlock : rows;
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t r = r0; r < r1; ++r) to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

PTB_VECTORISED double sum_of_squares(std::int64_t n, const float* x) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < n; ++k) {
    sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  }
  return sum;
}

}  // namespace ptb::loops
