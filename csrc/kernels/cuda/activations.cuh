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

// exp(x) = scale * (1 + rest), scale a power of two and rest = 2^r - 1 for r in [-1/2, 1/2].
struct Exponential {
  float rest, scale;
};

// exp of x * factor: `log2e` is factor / ln2 and `log2e_rest` what its rounding left. The fraction
// is found from x itself, so that the size of the product rounds nothing away.
FXFAST_DEVICE Exponential exp_of(float any, float limit, float log2e, float log2e_rest) {
  // Products of two exponentials stay far inside the range.
  const float x = fminf(fmaxf(any, -limit), limit), n = nearest(x * log2e);
  const float r = multiply_add(x, log2e_rest, multiply_add(x, log2e, -n));
  // (2^r - 1) / r to 5.5e-9, Chebyshev nodes.
  float y = 1.5303702e-5f;
  y = multiply_add(y, r, 1.5461448e-4f);
  y = multiply_add(y, r, 1.3333479e-3f);
  y = multiply_add(y, r, 9.618057e-3f);
  y = multiply_add(y, r, 5.550411e-2f);
  y = multiply_add(y, r, 2.402265e-1f);
  y = multiply_add(y, r, 6.931472e-1f);
  return {y * r, as_float((static_cast<std::int32_t>(n) + 127) << 23)};
}

// (exp(2x) - 1) / (exp(2x) + 1), nothing cancels: near zero the scale is 1.
FXFAST_DEVICE float tanh_of(float x) {
  const Exponential e = exp_of(x, 13.0f, 2.8853900432586670f, 3.8519259e-8f);
  return quotient(multiply_add(e.scale, e.rest, e.scale - 1.0f),
                  multiply_add(e.scale, e.rest, e.scale + 1.0f));
}

// 1 / (1 + exp(-x))
FXFAST_DEVICE float sigmoid_of(float x) {
  const Exponential e = exp_of(x, 80.0f, -1.4426950216293335f, -1.9259630e-8f);
  return quotient(1.0f, multiply_add(e.scale, e.rest, e.scale + 1.0f));
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
