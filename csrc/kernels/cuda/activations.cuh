// The activations on the device, one value at a time; the same formulas as on the CPU.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/kernel_table.h"

namespace fxfast::cuda {

// A quotient to about a rounding, for divisors far from the ends of the range.
FXFAST_DEVICE float quotient(float a, float b) {
  const float r = reciprocal(b), q = a * r;
  return multiply_add(multiply_add(-q, b, a), r, q);
}

// 2^w = scale * (u + r) / (u - r) with w = n + r, scale = 2^n and u = r / tanh(r ln2 / 2), an even
// function.
struct Exp2 {
  float u, r, scale;
};

// exp of x * factor: `log2e` is factor / ln2 and `log2e_rest` what its rounding left. The fraction
// is found from x itself, so that the size of the product rounds nothing away.
FXFAST_DEVICE Exp2 exp_of(float any, float limit, float log2e, float log2e_rest) {
  // Products of two exponentials stay far inside the range.
  const float x = fminf(fmaxf(any, -limit), limit), n = nearest(x * log2e);
  Exp2 e;
  e.r = multiply_add(x, log2e_rest, multiply_add(x, log2e, -n));
  const float r2 = e.r * e.r;
  e.u = multiply_add(multiply_add(r2, -0.00092114194f, 0.11552419f), r2, 2.885390082f);
  e.scale = as_float((static_cast<std::int32_t>(n) + 127) << 23);
  return e;
}

FXFAST_DEVICE float tanh_of(float x) {
  const Exp2 e = exp_of(x, 13.0f, 2.8853900432586670f, 3.8519259e-8f);
  const float less = e.scale - 1.0f, more = e.scale + 1.0f;
  return quotient(multiply_add(less, e.u, more * e.r), multiply_add(more, e.u, less * e.r));
}

FXFAST_DEVICE float sigmoid_of(float x) {
  const Exp2 e = exp_of(x, 27.0f, 1.4426950216293335f, 1.9259630e-8f);
  const float rising = e.scale * (e.u + e.r);
  return quotient(rising, rising + (e.u - e.r));
}

// `params` are those of the channel (kPrelu) or of the layer.
FXFAST_DEVICE float activated(Activation activation, float x, const float* params) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x > 0.0f ? x : 0.0f;
    case Activation::kPrelu: return x > 0.0f ? x : x * params[0];
    case Activation::kTanh: return tanh_of(x);
    case Activation::kSigmoid: return sigmoid_of(x);
    case Activation::kHardtanh: return fminf(fmaxf(x, -1.0f), 1.0f);
    case Activation::kFasttanh: {
      const float ax = fabsf(x), x2 = x * x;
      const float over = x * (2.45550750702956f + 2.45550750702956f * ax +
                              (0.893229853513558f + 0.821226666969744f * ax) * x2);
      const float under =
          2.44506634652299f +
          (2.44506634652299f + x2) * fabsf(x + 0.814642734961073f * x * ax);
      return over / under;
    }
    case Activation::kSilu: return x * sigmoid_of(x);
    case Activation::kHardswish: return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
    case Activation::kLeakyHardtanh:
      if (x < params[0]) return (x - params[0]) * params[2] + params[0];
      return x > params[1] ? (x - params[1]) * params[3] + params[1] : x;
    case Activation::kSoftsign: return x / (1.0f + fabsf(x));
  }
  return x;
}

FXFAST_DEVICE const float* channel_params(Activation activation, const float* params, int channel) {
  return activation == Activation::kPrelu ? params + channel : params;
}

}  // namespace fxfast::cuda
