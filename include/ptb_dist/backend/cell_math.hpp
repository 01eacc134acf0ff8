// The per-element formulas of the model, once, for every backend: the CPU's loops, the CUDA kernels
// and the reference in double call these, so a test on the CPU checks what the GPU runs.
//
// In float the exponential is our own: branch-free arithmetic that a compiler turns into vector
// code, which it cannot do with a call into the mathematical library. In double it is the
// library's.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "ptb_dist/base/host_device.hpp"

namespace ptb::cell {

PTB_HOST_DEVICE inline double exponential(double x) { return std::exp(x); }

// e^x to 1.25 units in the last place on [-87.3, 87.3]. Beyond that x is clamped, so the result is
// never 0, infinite or denormal; NaN stays NaN. x = n·ln 2 + r with |r| <= ln 2 / 2; e^r is its
// Taylor polynomial of degree 7, whose remainder at that |r| is 1.4e-8 (half a unit is 3e-8).
PTB_HOST_DEVICE inline float exponential(float x) {
  const float low = x < -87.3f ? -87.3f : x;
  const float bounded = low > 87.3f ? 87.3f : low;
  // Adding and subtracting 1.5·2^23 rounds to the nearest integer, and leaves it in the low bits.
  const float shifted = bounded * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  // ln 2 in two parts, so that n·ln 2 is subtracted exactly.
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n by writing n into the exponent: the integer sits in the low bits of `shifted`.
  const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) << 23;
  return std::bit_cast<float>(std::bit_cast<std::int32_t>(p) + exponent);
}

// σ(x) = 1 / (1 + e^-x)
template <class Real>
PTB_HOST_DEVICE inline Real sigmoid(Real x) {
  return Real(1) / (Real(1) + exponential(-x));
}

PTB_HOST_DEVICE inline double hyperbolic_tangent(double x) { return std::tanh(x); }

// tanh(x), to a few units in the last place everywhere. At first weights are small, so most
// arguments are near 0, where 1 - 2 / (e^2x + 1) cancels. Below 5/8 the odd polynomial of Cephes'
// tanhf (Moshier 1989) is used. Both are computed and one is chosen, which vector code can do.
PTB_HOST_DEVICE inline float hyperbolic_tangent(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near_zero = p * z * x + x;
  const float beyond = 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f);
  return z < 0.390625f ? near_zero : beyond;
}

// One unit of a BasicLSTMCell. In: pre-activations of the gates and the previous cell value.
// Out: activations i, j, f, o; c′ = c·σ(f + forget_bias) + σ(i)·tanh(j); h′ = σ(o)·tanh(c′).
template <class Real>
struct LstmUnit {
  Real i, j, f, o;  // activations
  Real c, h;        // new cell value and output
};

template <class Real>
PTB_HOST_DEVICE inline LstmUnit<Real> lstm_forward(Real zi, Real zj, Real zf, Real zo,
                                                   Real c_before, Real forget_bias) {
  LstmUnit<Real> u;
  u.i = sigmoid(zi);
  u.j = hyperbolic_tangent(zj);
  u.f = sigmoid(zf + forget_bias);
  u.o = sigmoid(zo);
  u.c = c_before * u.f + u.i * u.j;
  u.h = u.o * hyperbolic_tangent(u.c);
  return u;
}

// Backward mate. In: the activations, c before and after, the gradients of h′ and c′.
// Out: gradients of the four pre-activations and of the previous cell value.
template <class Real>
struct LstmUnitGradient {
  Real zi, zj, zf, zo;
  Real c_before;
};

template <class Real>
PTB_HOST_DEVICE inline LstmUnitGradient<Real> lstm_backward(Real i, Real j, Real f, Real o,
                                                            Real c_before, Real c, Real d_h,
                                                            Real d_c) {
  const Real tanh_c = hyperbolic_tangent(c);
  const Real d_c_total = d_c + d_h * o * (Real(1) - tanh_c * tanh_c);
  return {
      .zi = d_c_total * j * i * (Real(1) - i),
      .zj = d_c_total * i * (Real(1) - j * j),
      .zf = d_c_total * c_before * f * (Real(1) - f),
      .zo = d_h * tanh_c * o * (Real(1) - o),
      .c_before = d_c_total * f,
  };
}

// One unit of torch.nn.GRU. In: for each of the gates r, z, n the input's share x and the recurrent
// share s, each with its bias; h of the step before.
// Out: r = σ(xr + sr), z = σ(xz + sz), n = tanh(xn + r·sn); h′ = (1 - z)·n + z·h.
template <class Real>
struct GruUnit {
  Real r, z, n;  // activations
  Real h;        // new output
};

template <class Real>
PTB_HOST_DEVICE inline GruUnit<Real> gru_forward(Real xr, Real xz, Real xn, Real sr, Real sz,
                                                 Real sn, Real h_before) {
  GruUnit<Real> u;
  u.r = sigmoid(xr + sr);
  u.z = sigmoid(xz + sz);
  u.n = hyperbolic_tangent(xn + u.r * sn);
  u.h = (Real(1) - u.z) * u.n + u.z * h_before;
  return u;
}

// Backward mate. In: the activations, sn, h of the step before, the gradient of h′.
// Out: gradients of xr, xz and xn (sr and sz have those of xr and xz), of sn, and the part of h's
// gradient that passes through no matrix product.
template <class Real>
struct GruUnitGradient {
  Real xr, xz, xn;
  Real sn;
  Real h_before;
};

template <class Real>
PTB_HOST_DEVICE inline GruUnitGradient<Real> gru_backward(Real r, Real z, Real n, Real sn,
                                                          Real h_before, Real d_h) {
  const Real d_xn = d_h * (Real(1) - z) * (Real(1) - n * n);
  return {
      .xr = d_xn * sn * r * (Real(1) - r),
      .xz = d_h * (h_before - n) * z * (Real(1) - z),
      .xn = d_xn,
      .sn = d_xn * r,
      .h_before = d_h * z,
  };
}

// One unit of torch.nn.RNN: h′ = tanh(z).
template <class Real>
PTB_HOST_DEVICE inline Real rnn_forward(Real z) {
  return hyperbolic_tangent(z);
}
// The gradient of z, from h′ and its gradient.
template <class Real>
PTB_HOST_DEVICE inline Real rnn_backward(Real h, Real d_h) {
  return d_h * (Real(1) - h * h);
}

// Inverted dropout: a kept value is scaled by 1/keep_prob. `scale` is that factor.
template <class Real>
PTB_HOST_DEVICE inline Real dropped(Real x, std::uint8_t keep, Real scale) {
  return keep ? x * scale : Real(0);
}

}  // namespace ptb::cell
