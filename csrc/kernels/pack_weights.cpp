#include "kernels/pack_weights.h"

#include <algorithm>

#include "kernels/kernel_table.h"

namespace fxfast {

void pack_weights(const WeightView& view, float* packed) {
  if (taps_as_channels(view.out_channels, view.in_channels, view.taps)) {
    return pack_weights({view.data, view.taps, view.in_channels, 1, view.tap_stride, view.in_stride,
                         view.tap_stride},
                        packed);
  }
  const int most = panel_channels(view.out_channels);
  for (int first = 0; first < view.out_channels; first += most) {
    const int panel = std::min(most, view.out_channels - first);
    for (int k = 0; k < view.taps; ++k) {
      for (int i = 0; i < view.in_channels; ++i) {
        const float* w =
            view.data + first * view.out_stride + i * view.in_stride + k * view.tap_stride;
        for (int m = 0; m < panel; ++m) *packed++ = w[m * view.out_stride];
      }
    }
  }
}

}  // namespace fxfast
