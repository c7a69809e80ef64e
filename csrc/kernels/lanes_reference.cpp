#include "kernels/lanes_reference.h"

#include <array>
#include <cmath>
#include <complex>
#include <numbers>

namespace fxfast {
namespace {

using Complex = std::complex<double>;
// Work memory is the caller's, and its rows are floats.
using Signal = std::array<Complex, kTransform>;

// exp(sign 2 pi i k / kTransform).
Complex turn(int k, double sign) {
  return std::polar(1.0, sign * 2.0 * std::numbers::pi * (k % kTransform) / kTransform);
}

Signal transform(const Signal& x, double sign) {
  Signal turns, out;
  for (int k = 0; k < kTransform; ++k) turns[static_cast<std::size_t>(k)] = turn(k, sign);
  for (int k = 0; k < kTransform; ++k) {
    Complex sum = 0.0;
    for (int t = 0; t < kTransform; ++t) {
      sum += x[static_cast<std::size_t>(t)] * turns[static_cast<std::size_t>(k * t % kTransform)];
    }
    out[static_cast<std::size_t>(k)] = sum;
  }
  return out;
}

struct Segment {
  int start, samples;  // of the input that a transform reads, from the first sample of the block
};

int longest_segment(int taps) {
  return (taps + spectral_segments(taps) - 1) / spectral_segments(taps);
}

Segment segment_of(int taps, int s) {
  const int delay = s * longest_segment(taps);
  const int start = 1 - std::min(longest_segment(taps), taps - delay) - delay;
  return {start, std::min(kTransform, kLaneBlock - start)};
}

// Value of a lane in bin `bin` and row `row` of spectra; the real bins have no imaginary part.
Complex bin_value(const float* spectra, std::ptrdiff_t rows, int bin, std::ptrdiff_t row,
                  int lane) {
  const float* at = spectra + bin * spectral_bin_floats(rows) + row * kLanes + lane;
  const bool is_real = bin == 0 || bin == kBins - 1;
  return {static_cast<double>(at[0]), is_real ? 0.0 : static_cast<double>(at[rows * kLanes])};
}

void set_bin(float* spectra, std::ptrdiff_t rows, int bin, std::ptrdiff_t row, int lane,
             Complex value) {
  float* at = spectra + bin * spectral_bin_floats(rows) + row * kLanes + lane;
  at[0] = static_cast<float>(value.real());
  at[rows * kLanes] = static_cast<float>(value.imag());
}

void forward(const SpectralTask& task, float* spectra, int lane) {
  const std::ptrdiff_t rows = spectral_rows_in(task.in_channels, task.taps);
  std::ptrdiff_t row = 0;
  for (int s = 0; s < spectral_segments(task.taps); ++s) {
    const Segment segment = segment_of(task.taps, s);
    for (int c = 0; c < task.in_channels; c += 2, row += 2) {
      const float* re = task.input + c * task.input_stride + segment.start * kLanes + lane;
      const float* im = c + 1 < task.in_channels ? re + task.input_stride : re;
      Signal x = {};
      for (int t = 0; t < segment.samples; ++t) {
        x[static_cast<std::size_t>(t)] = {static_cast<double>(re[t * kLanes]),
                                          static_cast<double>(im[t * kLanes])};
      }
      const Signal z = transform(x, -1.0);
      for (int bin = 0; bin < kBins; ++bin) {
        const Complex low = z[static_cast<std::size_t>(bin)];
        const bool is_real = bin == 0 || bin == kBins - 1;
        const Complex mirror =
            std::conj(z[static_cast<std::size_t>((kTransform - bin) % kTransform)]);
        set_bin(spectra, rows, bin, row, lane, is_real ? low.real() : low);
        set_bin(spectra, rows, bin, row + 1, lane, is_real ? low.imag() : mirror);
      }
    }
  }
}

void multiply(const SpectralTask& task, const float* in, float* out, int lane) {
  const std::ptrdiff_t rows_in = spectral_rows_in(task.in_channels, task.taps);
  const std::ptrdiff_t rows_out = spectral_rows_out(task.out_channels);
  const float* weights = task.weights + kSpectralTableFloats;
  for (int bin = 0; bin < kBins; ++bin) {
    const bool is_real = bin == 0 || bin == kBins - 1;
    for (std::ptrdiff_t first = 0; first < rows_out; first += kSpectralPanel) {
      const std::ptrdiff_t panel = std::min<std::ptrdiff_t>(kSpectralPanel, rows_out - first);
      const std::ptrdiff_t matrix = rows_in * panel;
      for (std::ptrdiff_t m = 0; m < panel; ++m) {
        Complex sum = 0.0;
        for (std::ptrdiff_t i = 0; i < rows_in; ++i) {
          const Complex x = bin_value(in, rows_in, bin, i, lane);
          const auto a = static_cast<double>(weights[i * panel + m]);
          const auto less_ab = static_cast<double>(weights[matrix + i * panel + m]);
          const auto b_less_a = static_cast<double>(weights[2 * matrix + i * panel + m]);
          const double both = a * (x.real() + x.imag());
          sum += is_real ? a * x.real()
                         : Complex(both + less_ab * x.imag(), both + b_less_a * x.real());
        }
        set_bin(out, rows_out, bin, first + m, lane, sum);
      }
      weights += 3 * matrix;
    }
  }
}

void inverse(const SpectralTask& task, const float* spectra, int lane) {
  const std::ptrdiff_t rows = spectral_rows_out(task.out_channels);
  for (int c = 0; c < task.out_channels; c += 2) {
    Signal z;
    for (int bin = 0; bin < kBins; ++bin) {
      const Complex low = bin_value(spectra, rows, bin, c, lane);
      const Complex mirror = bin_value(spectra, rows, bin, c + 1, lane);
      if (bin == 0 || bin == kBins - 1) {
        z[static_cast<std::size_t>(bin)] = {low.real(), mirror.real()};
      } else {
        z[static_cast<std::size_t>(bin)] = low;
        z[static_cast<std::size_t>(kTransform - bin)] = std::conj(mirror);
      }
    }
    const Signal y = transform(z, 1.0);
    for (int t = 0; t < kLaneBlock; ++t) {
      const Complex value = y[static_cast<std::size_t>(t + kSpectralStart)];
      float* to = task.output + c * task.output_stride + t * kLanes + lane;
      *to = static_cast<float>(value.real() + static_cast<double>(task.bias[c]));
      if (c + 1 >= task.out_channels) continue;
      to[task.output_stride] =
          static_cast<float>(value.imag() + static_cast<double>(task.bias[c + 1]));
    }
  }
}

}  // namespace

void reference_to_lanes(const LanesTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    for (int at = 0; at < kLanePiece; ++at) {
      task.output[c * task.output_stride + at] =
          task.input[c * task.input_stride + at % kLanes * kLaneBlock + at / kLanes];
    }
  }
}

void reference_from_lanes(const LanesTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    for (int at = 0; at < kLanePiece; ++at) {
      task.output[c * task.output_stride + at % kLanes * kLaneBlock + at / kLanes] =
          task.input[c * task.input_stride + at];
    }
  }
}

void reference_carry_lanes(const CarryTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    float* row = task.rows + c * task.stride;
    for (int t = -task.history; t < 0; ++t) {
      const float* end_of_block = row + (kLaneBlock + t) * kLanes;
      float* carry = task.carry + c * task.history + task.history + t;
      for (int lane = 1; lane < kLanes; ++lane) row[t * kLanes + lane] = end_of_block[lane - 1];
      row[t * kLanes] = *carry;
      *carry = end_of_block[kLanes - 1];
    }
  }
}

void reference_spectral(const SpectralTask& task) noexcept {
  const std::ptrdiff_t rows_in = spectral_rows_in(task.in_channels, task.taps);
  float* in = task.work;
  float* out = in + kBins * spectral_bin_floats(rows_in);
  for (int lane = 0; lane < kLanes; ++lane) {
    forward(task, in, lane);
    multiply(task, in, out, lane);
    inverse(task, out, lane);
  }
  reference_kernels().activate({task.output, task.output, task.params, task.output_stride,
                                task.output_stride, task.out_channels, kLanePiece,
                                task.activation});
}

}  // namespace fxfast
