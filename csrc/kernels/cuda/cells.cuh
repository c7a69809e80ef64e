// The cells of recurrent layers, one unit at a time, from the sums of its four gates.
#pragma once

#include "kernels/cuda/activations.cuh"

namespace fxfast::cuda {

struct Gates {
  float g[4];
};

FXFAST_DEVICE void add_products(Gates& sum, const float4& w, float v) {
  sum.g[0] = multiply_add(w.x, v, sum.g[0]);
  sum.g[1] = multiply_add(w.y, v, sum.g[1]);
  sum.g[2] = multiply_add(w.z, v, sum.g[2]);
  sum.g[3] = multiply_add(w.w, v, sum.g[3]);
}

FXFAST_DEVICE void add_gates(Gates& to, const Gates& sum) {
#pragma unroll
  for (int g = 0; g < 4; ++g) to.g[g] += sum.g[g];
}

constexpr float kMinusLog2e = -1.4426950408889634f;

// The sigmoid of sum + bias, given -log2(e) * bias.
FXFAST_DEVICE float gate_of(float sum, float scaled_bias) {
  return reciprocal(1.0f + exp2_fast(multiply_add(sum, kMinusLog2e, scaled_bias)));
}

// The gates whose sigmoid is taken have their biases in the domain of exp2.
template <Cell kCell>
FXFAST_DEVICE Gates scaled_biases(const Gates& bias) {
  Gates scaled = bias;
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    const bool is_sigmoid = kCell == Cell::kLstm ? g != 2 : g < 2;
    if (is_sigmoid) scaled.g[g] *= kMinusLog2e;
  }
  return scaled;
}

// `memory` is c of an LSTM; `h` is replaced. `bias` as scaled_biases gives it.
template <Cell kCell>
FXFAST_DEVICE void step_cell(const Gates& sum, const Gates& bias, float& memory, float& h) {
  if constexpr (kCell == Cell::kLstm) {  // i, f, g, o
    const float in = gate_of(sum.g[0], bias.g[0]) * tanh_of(sum.g[2] + bias.g[2]);
    memory = multiply_add(gate_of(sum.g[1], bias.g[1]), memory, in);
    h = gate_of(sum.g[3], bias.g[3]) * tanh_of(memory);
  } else {  // r, z, nx, nh
    const float reset = gate_of(sum.g[0], bias.g[0]);
    const float n = tanh_of(multiply_add(reset, sum.g[3] + bias.g[3], sum.g[2] + bias.g[2]));
    h = multiply_add(gate_of(sum.g[1], bias.g[1]), h - n, n);
  }
}

}  // namespace fxfast::cuda
