// Convolutions by transforms, in lanes: spectra of the input, products, samples of the output.
// Compiled per instruction set right after lane_transform_body.inl and under the same rules.

namespace FXFAST_ISA_NAMESPACE {
namespace in_lanes {

// Rows of output spectra, and vectors of each, that a tile sums at once.
constexpr int kProductRows = FXFAST_VECTOR_REGISTERS >= 32 ? 16 : 4;
constexpr int kTileVecs = kLaneVecs < 2 ? kLaneVecs : 2;

// The weights are read once, in order, from beyond the second-level cache.
constexpr int kPrefetchFloats = 1024;

// sum[m] += sum_i w[m] x[i]; with kSum x[i] is the sum of its real and imaginary part.
template <int kRows, bool kSum>
static FXFAST_INLINE void product(Vec (&sum)[kRows][kTileVecs], const float* w, int panel,
                                  const float* x, std::ptrdiff_t imaginary, int rows_in) {
  for (int i = 0; i < rows_in; ++i, x += kLanes, w += panel) {
    __builtin_prefetch(w + kPrefetchFloats);
    Vec in[kTileVecs];
#pragma GCC unroll 4
    for (int n = 0; n < kTileVecs; ++n) {
      in[n] = load(x + n * kVec);
      if (kSum) in[n] += load(x + imaginary + n * kVec);
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const Vec weight = broadcast(w[m]);
#pragma GCC unroll 4
      for (int n = 0; n < kTileVecs; ++n) sum[m][n] += weight * in[n];
    }
  }
}

template <int kRows>
static FXFAST_INLINE void store_rows(const Vec (&sum)[kRows][kTileVecs], float* y) {
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kTileVecs; ++n) store(y + m * kLanes + n * kVec, sum[m][n]);
  }
}

// A complex product by three real ones (Gauss): re = s (c + d) - t d, im = s (c + d) + u c.
template <int kRows>
__attribute__((noinline)) void complex_tile(const float* w, int panel, const float* x,
                                            std::ptrdiff_t x_imaginary, float* y,
                                            std::ptrdiff_t y_imaginary, int rows_in) {
  const std::ptrdiff_t matrix = (std::ptrdiff_t)rows_in * panel;
  Vec sum[kRows][kTileVecs] = {}, both[kRows][kTileVecs];
  product<kRows, true>(sum, w, panel, x, x_imaginary, rows_in);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kTileVecs; ++n) both[m][n] = sum[m][n];
  }
  product<kRows, false>(sum, w + matrix, panel, x + x_imaginary, 0, rows_in);
  store_rows<kRows>(sum, y);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kTileVecs; ++n) sum[m][n] = both[m][n];
  }
  product<kRows, false>(sum, w + 2 * matrix, panel, x, 0, rows_in);
  store_rows<kRows>(sum, y + y_imaginary);
}

template <int kRows>
__attribute__((noinline)) void real_tile(const float* w, int panel, const float* x, float* y,
                                         int rows_in) {
  Vec sum[kRows][kTileVecs] = {};
  product<kRows, false>(sum, w, panel, x, 0, rows_in);
  store_rows<kRows>(sum, y);
}

template <int kRows>
FXFAST_INLINE void any_tile(int rows, bool is_real, const float* w, int panel, const float* x,
                            std::ptrdiff_t x_imaginary, float* y, std::ptrdiff_t y_imaginary,
                            int rows_in) {
  if (rows >= kRows) {
    if (is_real) return real_tile<kRows>(w, panel, x, y, rows_in);
    return complex_tile<kRows>(w, panel, x, x_imaginary, y, y_imaginary, rows_in);
  }
  if constexpr (kRows > 4) {
    any_tile<kRows - 4>(rows, is_real, w, panel, x, x_imaginary, y, y_imaginary, rows_in);
  }
}

void multiply_spectra(const float* weights, const float* x, int rows_in, float* y, int rows_out) {
  for (int bin = 0; bin < kBins; ++bin) {
    const bool is_real = bin == 0 || bin == kBins - 1;
    for (int first = 0; first < rows_out; first += kSpectralPanel) {
      const int left = rows_out - first;
      const int panel = left < kSpectralPanel ? left : kSpectralPanel;
      for (int row = 0; row < panel; row += kProductRows) {
        for (int v = 0; v < kLanes; v += kTileVecs * kVec) {
          any_tile<kProductRows>(panel - row, is_real, weights + row, panel, x + v,
                                 (std::ptrdiff_t)rows_in * kLanes, y + (first + row) * kLanes + v,
                                 (std::ptrdiff_t)rows_out * kLanes, rows_in);
        }
      }
      weights += (std::ptrdiff_t)3 * rows_in * panel;
    }
    x += spectral_bin_floats(rows_in);
    y += spectral_bin_floats(rows_out);
  }
}

void forward_all(const SpectralTask& task, float* spectra, float* work) {
  const int segments = spectral_segments(task.taps);
  const int longest = (task.taps + segments - 1) / segments;
  const std::ptrdiff_t rows = spectral_rows_in(task.in_channels, task.taps);
  const Spectra all = {spectra, spectral_bin_floats(rows), rows * kLanes};
  std::ptrdiff_t row = 0;
  for (int s = 0; s < segments; ++s) {
    const int delay = s * longest;
    const int taps = task.taps - delay < longest ? task.taps - delay : longest;
    const int start = 1 - taps - delay;
    const int samples = kLaneBlock - start < kTransform ? kLaneBlock - start : kTransform;
    for (int channel = 0; channel < task.in_channels; channel += 2, row += 2) {
      const float* re = task.input + channel * task.input_stride + start * kLanes;
      // The last row of an odd number stands for its partner too, whose weights are zero.
      const float* im = channel + 1 < task.in_channels ? re + task.input_stride : re;
      for (int v = 0; v < kLanes; v += kVec) {
        forward_pair(re + v, im + v, samples, task.weights, work,
                     {all.at + row * kLanes + v, all.bin, all.imaginary});
      }
    }
  }
}

template <Epilogue kEpilogue>
void inverse_all(const SpectralTask& task, float* spectra, float* work) {
  const std::ptrdiff_t rows = spectral_rows_out(task.out_channels);
  const Spectra all = {spectra, spectral_bin_floats(rows), rows * kLanes};
  for (int channel = 0; channel < task.out_channels; channel += 2) {
    const int partner = channel + 1 < task.out_channels ? 1 : 0;
    const float* slopes = kEpilogue == Epilogue::kPrelu ? task.params + channel : nullptr;
    float* re = task.output + channel * task.output_stride;
    float* im = re + partner * task.output_stride;
    for (int v = 0; v < kLanes; v += kVec) {
      const Spectra from = {all.at + channel * kLanes + v, all.bin, all.imaginary};
      inverse_pair<kEpilogue>(from, task.weights, work, re + v, im + v, task.bias + channel, slopes,
                              partner);
    }
  }
}

void spectral(const SpectralTask& task) noexcept {
  const auto rows_in = (int)spectral_rows_in(task.in_channels, task.taps);
  const auto rows_out = (int)spectral_rows_out(task.out_channels);
  float* in_spectra = task.work;
  float* out_spectra = in_spectra + kBins * spectral_bin_floats(rows_in);
  float* work = out_spectra + kBins * spectral_bin_floats(rows_out);
  forward_all(task, in_spectra, work);
  multiply_spectra(task.weights + kSpectralTableFloats, in_spectra, rows_in, out_spectra, rows_out);
  if (task.activation == Activation::kRelu) {
    return inverse_all<Epilogue::kRelu>(task, out_spectra, work);
  }
  if (task.activation == Activation::kPrelu) {
    return inverse_all<Epilogue::kPrelu>(task, out_spectra, work);
  }
  inverse_all<Epilogue::kNone>(task, out_spectra, work);
  if (task.activation != Activation::kNone) {
    activate({task.output, task.output, task.params, task.output_stride, task.output_stride,
              task.out_channels, kLanePiece, task.activation});
  }
}

// --- lanes -------------------------------------------------------------------------------------

void to_lanes(const LanesTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    const float* x = task.input + c * task.input_stride;
    float* y = task.output + c * task.output_stride;
    for (int t = 0; t < kLaneBlock; ++t) {
      for (int lane = 0; lane < kLanes; ++lane) y[t * kLanes + lane] = x[lane * kLaneBlock + t];
    }
  }
}

void from_lanes(const LanesTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    const float* x = task.input + c * task.input_stride;
    float* y = task.output + c * task.output_stride;
    for (int t = 0; t < kLaneBlock; ++t) {
      for (int lane = 0; lane < kLanes; ++lane) y[lane * kLaneBlock + t] = x[t * kLanes + lane];
    }
  }
}

void carry_lanes(const CarryTask& task) noexcept {
  for (int c = 0; c < task.channels; ++c) {
    const float* end = task.rows + c * task.stride + (kLaneBlock - task.history) * kLanes;
    float* start = task.rows + c * task.stride - task.history * kLanes;
    float* carry = task.carry + c * task.history;
    for (int t = 0; t < task.history; ++t, start += kLanes, end += kLanes) {
      Vec moved[kLaneVecs];
      for (int v = 0; v < kLaneVecs; ++v) moved[v] = load(end - 1 + v * kVec);
      for (int v = 0; v < kLaneVecs; ++v) store(start + v * kVec, moved[v]);
      start[0] = carry[t];
      carry[t] = end[kLanes - 1];
    }
  }
}

}  // namespace in_lanes
}  // namespace FXFAST_ISA_NAMESPACE
