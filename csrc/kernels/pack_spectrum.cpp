#include "kernels/pack_spectrum.h"

#include <algorithm>
#include <complex>
#include <numbers>
#include <vector>

namespace fxfast {
namespace {

using Complex = std::complex<double>;

// c of every split, at 2^s - 1 + b; a block is a polynomial modulo z^n - e^(2 pi i t).
std::vector<Complex> split_twiddles(std::size_t bins) {
  const std::size_t count = bins - 1;
  std::vector<Complex> twiddles(count);
  std::vector<double> turns(2 * count + 1);
  turns[0] = 0.25;
  for (std::size_t i = 0; i < count; ++i) {
    twiddles[i] = std::polar(1.0, std::numbers::pi * turns[i]);
    turns[2 * i + 1] = turns[i] / 2;
    turns[2 * i + 2] = turns[i] / 2 + 0.5;
  }
  return twiddles;
}

void split_all(std::vector<Complex>& z, const std::vector<Complex>& twiddles) {
  std::size_t node = 0;
  for (std::size_t samples = z.size(); samples > 1; samples /= 2) {
    const std::size_t half = samples / 2;
    for (std::size_t first = 0; first < z.size(); first += samples, ++node) {
      for (std::size_t n = first; n < first + half; ++n) {
        const Complex t = z[n + half] * twiddles[node];
        z[n + half] = z[n] - t;
        z[n] += t;
      }
    }
  }
}

// A complex number in chunks of kChunk real, then imaginary parts.
void put(float* chunks, std::size_t n, Complex value) {
  float* at = chunks + n / kChunk * (2 * kChunk) + n % kChunk;
  at[0] = static_cast<float>(value.real());
  at[kChunk] = static_cast<float>(value.imag());
}

}  // namespace

std::size_t twiddle_floats(std::size_t bins) {
  return static_cast<std::size_t>(spectrum_twiddle_floats(static_cast<std::ptrdiff_t>(bins))) +
         2 * bins;
}

void pack_twiddles(std::size_t bins, float* packed) {
  const std::vector<Complex> twiddles = split_twiddles(bins);
  const std::size_t blocks = bins / kChunk;
  for (std::size_t i = 0; i + 1 < blocks; ++i) {
    packed[2 * i] = static_cast<float>(twiddles[i].real());
    packed[2 * i + 1] = static_cast<float>(twiddles[i].imag());
  }
  float* lanes = packed + spectrum_twiddle_floats(static_cast<std::ptrdiff_t>(bins));
  for (std::size_t group = 0; group < blocks / 4; ++group, lanes += kGroupFloats) {
    for (std::size_t lane = 0; lane < kChunk; ++lane) {
      const std::size_t of_16 = blocks - 1 + group * 4 + lane / 4;
      const std::size_t of_4 = 4 * blocks - 1 + group * kChunk + lane;
      put(lanes, lane, twiddles[of_16]);
      put(lanes, kChunk + lane, twiddles[2 * of_16 + 1]);
      put(lanes, 2 * kChunk + lane, twiddles[of_4]);
      put(lanes, 3 * kChunk + lane, twiddles[2 * of_4 + 1]);
    }
  }
}

void pack_response(std::size_t bins, std::size_t partitions, const float* taps, std::size_t count,
                   float* packed) {
  const std::vector<Complex> twiddles = split_twiddles(bins);
  std::vector<Complex> z(bins);
  for (std::size_t p = 0; p < partitions; ++p) {
    const std::size_t first = p * bins, used = std::min(bins, count - first);
    std::fill(z.begin(), z.end(), 0.0);
    for (std::size_t n = 0; n < used; ++n) {
      z[n] = static_cast<double>(taps[first + n]) / static_cast<double>(bins);
    }
    split_all(z, twiddles);
    for (std::size_t n = 0; n < bins; ++n) {
      const std::size_t group = n / kGroupBins, factor = n % kGroupBins;
      const std::size_t place = 16 * (factor % 4) + 4 * (factor / 16) + factor / 4 % 4;
      put(packed + (group * partitions + p) * kGroupFloats, place, z[n]);
    }
  }
}

}  // namespace fxfast
