// Plain weights into the layouts that the kernels read (see kernel_table.h).
#pragma once

#include <cstddef>

#include "kernels/kernel_table.h"

namespace fxfast {

// Weights w[out][in][tap] anywhere in memory: strides in floats, of either sign, so that a
// transposed or time-reversed view packs without a copy.
struct WeightView {
  const float* data;
  int out_channels, in_channels, taps;
  std::ptrdiff_t out_stride, in_stride, tap_stride;
};

// Writes out_channels * in_channels * taps floats.
void pack_weights(const WeightView& view, float* packed);

// A recurrent layer: a row of four gates of `units` values for each x, then for each h. The gates
// of an LSTM are i, f, g, o, those of a GRU as in kernel_table.h.
struct RecurrentView {
  const float* weights;
  const float* bias;  // one row
  int in_channels, units;
  Cell cell;
};

// Writes the values of a layer into zeros: recurrent_weight_floats() weights and
// 4 * recurrent_lanes() biases.
void pack_recurrent(const RecurrentView& view, float* weights, float* bias);

// h and c of each unit into the zeros of a state of cell_state_floats().
void pack_recurrent_state(Cell cell, int units, const float* h_and_c, float* state);

}  // namespace fxfast
