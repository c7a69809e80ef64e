#include "kernels/pack_spectra.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numbers>

#include "kernels/kernel_table.h"

namespace fxfast {
namespace {

using Complex = std::complex<double>;
constexpr Complex kI = {0.0, 1.0};

const std::array<Complex, kTransform>& turns() {
  static const std::array<Complex, kTransform> table = [] {
    std::array<Complex, kTransform> made;
    for (std::size_t k = 0; k < kTransform; ++k) {
      made[k] = std::polar(1.0, -2.0 * std::numbers::pi * static_cast<double>(k) / kTransform);
    }
    return made;
  }();
  return table;
}

// The part of a convolution that one transform computes.
struct Segment {
  int delay, taps;
  int shift;  // later, so that the output starts at kSpectralStart
};

// Bin `bin` of the spectrum of one channel's weights; zero for the partner of an odd channel.
Complex spectrum_at(const WeightView& view, const Segment& segment, int out, int in, int bin) {
  if (out >= view.out_channels || in >= view.in_channels) return 0.0;
  const float* oldest = view.data + out * view.out_stride + in * view.in_stride;
  Complex sum = 0.0;
  for (int j = 0; j < segment.taps; ++j) {
    const float w = oldest[(view.taps - 1 - segment.delay - j) * view.tap_stride];
    const int turn = bin * (j + segment.shift) % kTransform;
    sum += static_cast<double>(w) * turns()[static_cast<std::size_t>(turn)];
  }
  return sum / static_cast<double>(kTransform);
}

// Where the three numbers of a weight stand.
class Packed {
 public:
  Packed(float* weights, std::ptrdiff_t rows_in, std::ptrdiff_t rows_out)
      : weights_(weights), rows_in_(rows_in), rows_out_(rows_out) {}

  void set(int bin, std::ptrdiff_t row_in, std::ptrdiff_t row_out, Complex weight) {
    const std::ptrdiff_t first = row_out / kSpectralPanel * kSpectralPanel;
    const std::ptrdiff_t panel = std::min<std::ptrdiff_t>(kSpectralPanel, rows_out_ - first);
    float* at =
        weights_ + 3 * rows_in_ * (bin * rows_out_ + first) + row_in * panel + (row_out - first);
    at[0] = static_cast<float>(weight.real());
    at[rows_in_ * panel] = static_cast<float>(-(weight.real() + weight.imag()));
    at[2 * rows_in_ * panel] = static_cast<float>(weight.imag() - weight.real());
  }

 private:
  float* weights_;
  std::ptrdiff_t rows_in_, rows_out_;
};

// The four weights between a pair of rows in and a pair of rows out. With X0 = (Z + Z') / 2 and
// X1 = (Z - Z') / 2i the outputs are Y0 + i Y1 and Y0 - i Y1 of Z and Z', the conjugate mirror.
void pack_pair(const WeightView& view, const Segment& segment, int out, int in, int bin,
               std::ptrdiff_t row_in, Packed& packed) {
  Complex w[2][2];
  for (int o = 0; o < 2; ++o) {
    for (int i = 0; i < 2; ++i) w[o][i] = spectrum_at(view, segment, out + o, in + i, bin);
  }
  if (bin == 0 || bin == kBins - 1) {
    for (int o = 0; o < 2; ++o) {
      for (int i = 0; i < 2; ++i) packed.set(bin, row_in + i, out + o, w[o][i].real());
    }
    return;
  }
  for (int i = 0; i < 2; ++i) {
    const Complex sign = i == 0 ? -kI : kI;
    const Complex y0 = (w[0][0] + sign * w[0][1]) / 2.0, y1 = (w[1][0] + sign * w[1][1]) / 2.0;
    packed.set(bin, row_in + i, out, y0 + kI * y1);
    packed.set(bin, row_in + i, out + 1, y0 - kI * y1);
  }
}

}  // namespace

std::ptrdiff_t spectra_floats(std::ptrdiff_t out_channels, std::ptrdiff_t in_channels, int taps) {
  return kSpectralTableFloats +
         3 * kBins * spectral_rows_in(in_channels, taps) * spectral_rows_out(out_channels);
}

void pack_spectra(const WeightView& view, float* spectra) {
  for (std::size_t k = 0; k < kTransform; ++k) {
    spectra[2 * k] = static_cast<float>(turns()[k].real());
    spectra[2 * k + 1] = static_cast<float>(turns()[k].imag());
  }
  Packed packed(spectra + kSpectralTableFloats, spectral_rows_in(view.in_channels, view.taps),
                spectral_rows_out(view.out_channels));
  const int segments = spectral_segments(view.taps);
  const int longest = (view.taps + segments - 1) / segments;
  std::ptrdiff_t row_in = 0;
  for (int s = 0; s < segments; ++s) {
    const int delay = s * longest, taps = std::min(longest, view.taps - delay);
    const Segment segment = {delay, taps, kSpectralStart + 1 - taps};
    for (int in = 0; in < view.in_channels; in += 2, row_in += 2) {
      for (int out = 0; out < view.out_channels; out += 2) {
        for (int bin = 0; bin < kBins; ++bin) {
          pack_pair(view, segment, out, in, bin, row_in, packed);
        }
      }
    }
  }
}

}  // namespace fxfast
