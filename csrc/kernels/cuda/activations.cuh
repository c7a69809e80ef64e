// The activations on the device, one value at a time.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/kernel_table.h"

namespace fxfast::cuda {

// Near zero a polynomial, from where it ends 1 - 2 / (exp(2x) + 1).
FXFAST_DEVICE float tanh_of(float x) {
  const float y = x * x, e = exp2_fast(fabsf(x) * 2.8853900817779268f);
  float near = 1.6437585e-2f;
  near = multiply_add(near, y, -5.2671816e-2f);
  near = multiply_add(near, y, 0.13320725f);
  near = multiply_add(near, y, -0.33332947f);
  near = multiply_add(near, x * y, x);
  const float far = multiply_add(-2.0f, reciprocal(e + 1.0f), 1.0f);
  return fabsf(x) < 0.55f ? near : copysignf(far, x);
}

FXFAST_DEVICE float sigmoid_of(float x) {
  return reciprocal(1.0f + exp2_fast(x * -1.4426950408889634f));
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
          2.44506634652299f + (2.44506634652299f + x2) * fabsf(x + 0.814642734961073f * x * ax);
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
