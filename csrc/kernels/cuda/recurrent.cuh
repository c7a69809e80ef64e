// Recurrent layers: a thread is one unit of one stream and computes its four gates.
//
// A step reads the layer's x and h of the stream from shared memory, (x, h) one after the other,
// from one of two places; the new h and the x of the next step go to the other one, so that a step
// needs one barrier. The weights of the unit, four gates for each row, are in registers where
// there are at most kRows rows.
#pragma once

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/team.cuh"

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

// The cell of one unit: `memory` is c of an LSTM; `h` is replaced.
FXFAST_DEVICE void step_cell(Cell cell, const Gates& gates, float& memory, float& h) {
  const float* g = gates.g;
  if (cell == Cell::kLstm) {  // i, f, g, o
    memory = multiply_add(sigmoid_of(g[1]), memory, sigmoid_of(g[0]) * tanh_of(g[2]));
    h = sigmoid_of(g[3]) * tanh_of(memory);
  } else {  // r, z, nx, nh
    const float n = tanh_of(multiply_add(sigmoid_of(g[0]), g[3], g[2]));
    h = multiply_add(sigmoid_of(g[1]), h - n, n);
  }
}

// The rows of weights of one unit, [row][unit][gate]; kRows = 0: read where they are.
template <int kRows>
struct UnitWeights {
  float4 w[kRows];

  FXFAST_DEVICE UnitWeights(const float* from, int units, int unit, int rows) {
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      w[k] = float4{0.0f, 0.0f, 0.0f, 0.0f};
      if (k < rows) w[k] = load4(from + 4 * (k * units + unit));
    }
  }
  // `v` has kRows values, those from `rows` on zero.
  FXFAST_DEVICE Gates products(const float* v, int) const {
    Gates sum = {};
#pragma unroll
    for (int k = 0; k < kRows; k += 4) {
      const float4 four = load4(v + k);
      add_products(sum, w[k], four.x);
      add_products(sum, w[k + 1], four.y);
      add_products(sum, w[k + 2], four.z);
      add_products(sum, w[k + 3], four.w);
    }
    return sum;
  }
};

template <>
struct UnitWeights<0> {
  const float* w;
  int units;

  FXFAST_DEVICE UnitWeights(const float* from, int unit_count, int unit, int)
      : w(from + 4 * unit), units(unit_count) {}
  FXFAST_DEVICE Gates products(const float* v, int rows) const {
    constexpr int kRunRows = 64;
    Gates total = {};
    for (int first = 0; first < rows; first += kRunRows) {
      const int end = first + kRunRows < rows ? first + kRunRows : rows;
      Gates sum = {};
#pragma unroll 4
      for (int k = first; k < end; ++k) add_products(sum, load4(w + 4 * k * units), v[k]);
      add_gates(total, sum);
    }
    return total;
  }
};

template <int kRows>
FXFAST_DEVICE void play_recurrent(const Team& team, const CudaOp& op) {
  const int units = op.out_channels, rows = op.in_channels + units;
  const int padded = kRows > 0 ? kRows : (rows + 3) / 4 * 4;
  const int stream = thread_index() / units, unit = thread_index() % units;
  const bool plays = stream < team.streams;
  float* places = shared_memory() + op.scratch + stream * padded;
  const int apart = static_cast<int>(header_of(*team.run).team_streams) * padded;
  int longest = 0;
  for (int s = 0; s < team.streams; ++s) {
    longest = team.samples(s) > longest ? team.samples(s) : longest;
  }
  const int samples = plays ? team.samples(stream) : 0, unheard = plays ? team.unheard(stream) : 0;
  float* cell = plays ? team.state(stream) + op.state : nullptr;
  float h = plays ? cell[unit] : 0.0f, memory = plays ? cell[units + unit] : 0.0f;
  Gates bias = {};
  if (plays) {
    for (int g = 0; g < 4; ++g) bias.g[g] = team.floats[op.bias + 4 * unit + g];
    for (int k = unit; k < padded; k += units) {
      places[k] = k < op.in_channels && samples > 0 ? team.row(stream, op.a, k)[0] : 0.0f;
      places[apart + k] = 0.0f;
    }
  }
  const UnitWeights<kRows> weights(team.floats + op.weights, units, plays ? unit : 0, rows);
  wait_for_all();
  if (plays) places[op.in_channels + unit] = h;
  wait_for_all();
  for (int t = 0; t < longest; ++t) {
    if (t < samples) {
      const float* now = places + (t & 1) * apart;
      float* next = places + (~t & 1) * apart;
      if (t >= unheard) {
        Gates gates = weights.products(now, rows);
        add_gates(gates, bias);
        step_cell(static_cast<Cell>(op.cell), gates, memory, h);
      }
      next[op.in_channels + unit] = h;
      team.row(stream, op.output, unit)[t] = h;
      for (int i = unit; i < op.in_channels && t + 1 < samples; i += units) {
        next[i] = team.row(stream, op.a, i)[t + 1];
      }
    }
    wait_for_all();
  }
  if (plays && samples > 0) cell[unit] = h, cell[units + unit] = memory;
}

// kMost: the most rows that the kernel holds in registers.
template <int kMost>
FXFAST_DEVICE void recur(const Team& team, const CudaOp& op) {
  if constexpr (kMost >= 44) {
    if (op.steps == 44) return play_recurrent<44>(team, op);
  }
  if constexpr (kMost >= 32) {
    if (op.steps == 32) return play_recurrent<32>(team, op);
  }
  if constexpr (kMost >= 20) {
    if (op.steps == 20) return play_recurrent<20>(team, op);
  }
  play_recurrent<0>(team, op);
}

}  // namespace fxfast::cuda
