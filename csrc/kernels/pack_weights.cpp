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

namespace {

constexpr double kSigmoidScale = 1.442695040888963407;  // 1 / ln2
constexpr double kTanhScale = 2.885390081777926815;     // 2 / ln2

// Which plain gate stands at each place, and its scale.
struct PackedGate {
  int gate;
  double scale;
};
constexpr PackedGate kGates[kCellCount][4] = {
    {{0, -kSigmoidScale}, {2, kTanhScale}, {1, -kSigmoidScale}, {3, -kSigmoidScale}},
    {{0, 1.0}, {1, 1.0}, {2, 1.0}, {3, 1.0}}};

}  // namespace

void pack_recurrent(const RecurrentView& view, float* weights, float* bias) {
  const int lanes = recurrent_lanes(view.units), rows = view.in_channels + view.units;
  for (int first = 0; first < lanes; first += kUnitBlock) {
    const int width = std::min(kUnitBlock, lanes - first);
    const int units = std::min(width, view.units - first);
    const auto pack_row = [&](const float* plain, float* packed) {
      for (const PackedGate& from : kGates[static_cast<int>(view.cell)]) {
        const float* values = plain + from.gate * view.units + first;
        for (int u = 0; u < units; ++u) {
          packed[u] = static_cast<float>(from.scale * static_cast<double>(values[u]));
        }
        packed += width;
      }
    };
    float* block = weights + std::ptrdiff_t{4} * first * (view.in_channels + lanes);
    for (int j = 0; j < rows; ++j) {
      pack_row(view.weights + std::ptrdiff_t{4} * view.units * j,
               block + std::ptrdiff_t{4} * width * j);
    }
    pack_row(view.bias, bias + std::ptrdiff_t{4} * first);
  }
}

void pack_recurrent_state(Cell cell, int units, const float* h_and_c, float* state) {
  std::copy_n(h_and_c, units, state);
  float* c = state + gate_block_floats(units);
  for (int u = 0; u < units; ++u) {
    const auto value = static_cast<double>(h_and_c[units + u]);
    c[u] = static_cast<float>(cell == Cell::kLstm ? kTanhScale * value : value);
  }
}

}  // namespace fxfast
