// Recurrent layers: those of kWarpShapes warp by warp, others by the whole team.
#pragma once

#include "kernels/cuda/recurrent_warp.cuh"

namespace fxfast::cuda {

// The sums of a unit, its weights [row][unit][gate] read where they are; after every kRunRows rows
// a total takes the sums over.
FXFAST_DEVICE Gates gate_sums(const float* weights, int units, const float* v, int rows) {
  constexpr int kRunRows = 64;
  Gates total = {};
  for (int first = 0; first < rows; first += kRunRows) {
    const int end = first + kRunRows < rows ? first + kRunRows : rows;
    Gates sum = {};
#pragma unroll 4
    for (int k = first; k < end; ++k) add_products(sum, load4(weights + 4 * k * units), v[k]);
    add_gates(total, sum);
  }
  return total;
}

// A thread is one unit of one stream. A step reads the layer's x and h of the stream from shared
// memory, (x, h) one after the other, from one of two places; the new h and the x of the next step
// go to the other one, so that a step needs one barrier.
template <Cell kCell>
FXFAST_DEVICE void play_by_team(const Team& team, const CudaOp& op) {
  const int units = op.out_channels, rows = op.in_channels + units;
  const int stream = thread_index() / units, unit = thread_index() % units;
  const bool plays = stream < team.streams;
  float* places = shared_memory() + op.scratch + stream * rows;
  const int apart = static_cast<int>(header_of(*team.run).team_streams) * rows;
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
    bias = scaled_biases<kCell>(bias);
    places[op.in_channels + unit] = h;
    for (int k = unit; k < op.in_channels && samples > 0; k += units) {
      places[k] = team.row(stream, op.a, k)[0];
    }
  }
  const float* weights = team.floats + op.weights + 4 * unit;
  wait_for_all();
  for (int t = 0; t < longest; ++t) {
    if (t < samples) {
      const float* now = places + (t & 1) * apart;
      float* next = places + (~t & 1) * apart;
      if (t >= unheard) step_cell<kCell>(gate_sums(weights, units, now, rows), bias, memory, h);
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

template <int kMost, Cell kCell, int kIndex = 0>
FXFAST_DEVICE void recur_as(const Team& team, const CudaOp& op) {
  constexpr int kCount = sizeof(kWarpShapes) / sizeof(kWarpShapes[0]);
  if constexpr (kIndex == kCount) {
    play_by_team<kCell>(team, op);
  } else {
    constexpr WarpShape kShape = kWarpShapes[kIndex];
    if constexpr (kShape.rows() <= kMost) {
      if (op.steps == kIndex) {
        return WarpLayer<kShape.units, kShape.inputs, kShape.turns, kCell>::play(team, op);
      }
    }
    recur_as<kMost, kCell, kIndex + 1>(team, op);
  }
}

// kMost: the most rows of weights that the kernel holds in registers.
template <int kMost>
FXFAST_DEVICE void recur(const Team& team, const CudaOp& op) {
  if (static_cast<Cell>(op.cell) == Cell::kLstm) {
    recur_as<kMost, Cell::kLstm>(team, op);
  } else {
    recur_as<kMost, Cell::kGru>(team, op);
  }
}

}  // namespace fxfast::cuda
