#include "kernels/reference_spectrum.h"

#include <cmath>
#include <complex>
#include <numbers>

namespace fxfast::reference {
namespace {

using Complex = std::complex<double>;

// Element n of an array in chunks.
class Element {
 public:
  Element(float* array, std::ptrdiff_t n) : at_(array + n / kChunk * (2 * kChunk) + n % kChunk) {}
  Complex get() const { return {at_[0], at_[kChunk]}; }
  void set(Complex value) const {
    at_[0] = static_cast<float>(value.real());
    at_[kChunk] = static_cast<float>(value.imag());
  }

 private:
  float* at_;
};

// The block of `samples` elements from `first` on is a polynomial modulo z^samples - e^(2 pi i t).
void split(float* work, std::ptrdiff_t first, std::ptrdiff_t samples, double t) noexcept {
  if (samples == 1) return;
  const std::ptrdiff_t half = samples / 2;
  const Complex c = std::polar(1.0, std::numbers::pi * t);
  for (std::ptrdiff_t n = first; n < first + half; ++n) {
    const Element low(work, n), high(work, n + half);
    const Complex a = low.get(), b = high.get() * c;
    low.set(a + b);
    high.set(a - b);
  }
  split(work, first, half, t / 2);
  split(work, first + half, half, t / 2 + 0.5);
}

void join(float* work, std::ptrdiff_t first, std::ptrdiff_t samples, double t) noexcept {
  if (samples == 1) return;
  const std::ptrdiff_t half = samples / 2;
  join(work, first, half, t / 2);
  join(work, first + half, half, t / 2 + 0.5);
  const Complex c = std::polar(1.0, -std::numbers::pi * t);
  for (std::ptrdiff_t n = first; n < first + half; ++n) {
    const Element low(work, n), high(work, n + half);
    const Complex a = low.get(), b = high.get();
    low.set(a + b);
    high.set((a - b) * c);
  }
}

// Where the factor at b, k, l of a group stands.
std::ptrdiff_t place_in_group(int factor) {
  const int b = factor / 16, k = factor / 4 % 4, l = factor % 4;
  return 16 * l + 4 * b + k;
}

}  // namespace

void fir(const FirTask& task) noexcept {
  for (int t = 0; t < task.samples; ++t) {
    double sum = static_cast<double>(*task.bias);
    if (task.add != nullptr) sum += static_cast<double>(task.add[t]);
    for (int n = 0; n < task.tap_count; ++n) {
      sum += static_cast<double>(task.taps[n]) * static_cast<double>(task.input[t - n]);
    }
    task.output[t] = static_cast<float>(sum);
  }
}

void spectrum_sum(const SpectrumSumTask& task) noexcept {
  for (int bin = 0; bin < kGroupBins; ++bin) {
    Complex sum = 0.0;
    for (int p = 1; p < task.partitions; ++p) {
      const int slot = (task.newest + p) % task.partitions;
      const std::ptrdiff_t at = bin / kChunk * (2 * kChunk) + bin % kChunk;
      const float* x = task.spectra + std::ptrdiff_t{slot} * kGroupFloats + at;
      const float* h = task.response + std::ptrdiff_t{p} * kGroupFloats + at;
      sum += Complex(x[0], x[kChunk]) * Complex(h[0], h[kChunk]);
    }
    Element(task.sum, bin).set(sum);
  }
}

void spectrum_block(const SpectrumBlockTask& task) noexcept {
  for (int n = 0; n < task.bins; ++n) {
    Element(task.work, n).set({task.older[n], task.newer[n]});
  }
  split(task.work, 0, task.bins, 0.25);
  const std::ptrdiff_t stride = std::ptrdiff_t{task.partitions} * kGroupFloats;
  for (int n = 0; n < task.bins; ++n) {
    const int group = n / kGroupBins;
    const std::ptrdiff_t place = place_in_group(n % kGroupBins);
    const std::ptrdiff_t at = place / kChunk * (2 * kChunk) + place % kChunk;
    const float* h = task.response + group * stride + at;
    const float* sum = task.sums + std::ptrdiff_t{group} * kGroupFloats + at;
    float* spectra = task.spectra + group * stride + std::ptrdiff_t{task.newest} * kGroupFloats;
    const Element bin(task.work, n);
    Element(spectra, place).set(bin.get());
    bin.set(Complex(sum[0], sum[kChunk]) + bin.get() * Complex(h[0], h[kChunk]));
  }
  join(task.work, 0, task.bins, 0.25);
  for (int n = 0; n < task.bins; ++n) {
    const double added = task.add == nullptr ? 0.0 : static_cast<double>(task.add[n]);
    task.output[n] = static_cast<float>(Element(task.work, n).get().imag() + added);
  }
}

void spectrum_filter(const SpectrumFilterTask& task) noexcept {
  const std::ptrdiff_t bins = task.bins;
  for (std::ptrdiff_t n = 0; n < bins; ++n) {
    Element(task.work, n).set({task.input[n], task.input[n + bins]});
  }
  split(task.work, 0, bins, 0.25);
  const std::ptrdiff_t stride = std::ptrdiff_t{task.partitions} * kGroupFloats;
  for (std::ptrdiff_t n = 0; n < bins; ++n) {
    const std::ptrdiff_t group = n / kGroupBins;
    const std::ptrdiff_t place = place_in_group(static_cast<int>(n % kGroupBins));
    const Element bin(task.work, n);
    float* spectra = task.spectra + group * stride;
    if (task.partitions > 1) {
      Element(spectra + std::ptrdiff_t{task.newest} * kGroupFloats, place).set(bin.get());
    }
    Complex sum = 0.0;
    for (int p = 0; p < task.partitions; ++p) {
      const int slot = (task.newest + p) % task.partitions;
      const Complex x =
          p == 0 ? bin.get() : Element(spectra + std::ptrdiff_t{slot} * kGroupFloats, place).get();
      const float* h = task.response + group * stride + std::ptrdiff_t{p} * kGroupFloats +
                       place / kChunk * (2 * kChunk) + place % kChunk;
      sum += x * Complex(h[0], h[kChunk]);
    }
    bin.set(sum);
  }
  join(task.work, 0, bins, 0.25);
  for (int t = 0; t < task.step; ++t) {
    const std::ptrdiff_t n = 2 * bins - task.step + t;
    const Complex value = Element(task.work, n % bins).get();
    const double y = n < bins ? value.real() : value.imag();
    task.output[t] = static_cast<float>(y + static_cast<double>(*task.bias));
  }
}

}  // namespace fxfast::reference
