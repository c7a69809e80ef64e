// Plain convolution weights into the panels that the kernels read (see kernel_table.h).
#pragma once

#include <cstddef>

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

}  // namespace fxfast
