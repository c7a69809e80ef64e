// The one tiled body of the fused kernels. A file per instruction set defines
//   FXFAST_ISA_NAMESPACE, FXFAST_VECTOR_FLOATS, FXFAST_VECTOR_REGISTERS,
//   FXFAST_HAS_FMA
// and includes this inside namespace fxfast. Nothing here may come from the standard library.

namespace FXFAST_ISA_NAMESPACE {

#include "kernels/simd.h"

constexpr int kVec = FXFAST_VECTOR_FLOATS;
constexpr int kMaxRows = FXFAST_VECTOR_REGISTERS >= 32 ? 8 : 4;

// How many vectors of time a tile of `rows` output channels is wide: rows * width accumulators,
// width input vectors and one broadcast weight fill the registers without spilling (a machine
// without fused multiply-add needs one more for the product). A tile of one row takes its input
// straight from memory.
constexpr int tile_width(int rows) {
  if (FXFAST_VECTOR_REGISTERS >= 32) {
    constexpr int widths[9] = {0, 12, 8, 6, 5, 4, 4, 3, 3};
    return widths[rows];
  }
  if (FXFAST_HAS_FMA) {
    constexpr int widths[5] = {0, 8, 4, 3, 3};
    return widths[rows];
  }
  constexpr int widths[5] = {0, 6, 4, 3, 2};
  return widths[rows];
}

// A block of conv_taps: whole tiles, and small enough for the stack.
constexpr int kTapsBlock = 192;

enum class Epilogue { kNone, kRelu, kPrelu };

template <Epilogue kEpilogue>
static FXFAST_INLINE Vec finish(Vec value, const float* slope) {
  if (kEpilogue == Epilogue::kRelu) return select(value > 0.0f, value, Vec{});
  if (kEpilogue == Epilogue::kPrelu) return select(value > 0.0f, value, value * *slope);
  return value;
}

struct Tile {
  const float* input;
  const float* weights;  // first channel of the tile in its panel
  const float* bias;
  const float* slopes;
  const float* add;  // or nullptr
  float* output;
  std::ptrdiff_t input_stride, output_stride, add_stride, tap_stride, panel_channels;
  int taps, in_channels;
};

// Products are summed in runs of this many, and the runs' sums are then added up: the rounding
// error grows with the square root of the longest chain, so a convolution of 1000 terms is as
// accurate as a blocked matrix product. Shorter sums than one run pay nothing for it.
constexpr int kRunTerms = 64;

template <int kRows, int kWidth>
static FXFAST_INLINE void end_run(Vec (&total)[kRows][kWidth], Vec (&sum)[kRows][kWidth],
                                  bool is_first) {
  if (!is_first) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) sum[m][n] = total[m][n] + sum[m][n];
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) total[m][n] = sum[m][n];
  }
}

template <int kRows, int kWidth, Epilogue kEpilogue>
__attribute__((noinline)) void conv_tile(const Tile& tile) {
  Vec sum[kRows][kWidth] = {}, total[kRows][kWidth];
  const float* w = tile.weights;
  const float* tap_input = tile.input;
  int terms = 0;
  bool has_total = false;
  for (int k = 0; k < tile.taps; ++k, tap_input += tile.tap_stride) {
    const float* x = tap_input;
    for (int left = tile.in_channels; left > 0;) {
      const int run = left < kRunTerms ? left : kRunTerms;
      if (terms + run > kRunTerms) {
        end_run<kRows, kWidth>(total, sum, !has_total);
#pragma GCC unroll 12
        for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
          for (int n = 0; n < kWidth; ++n) sum[m][n] = Vec{};
        }
        has_total = true;
        terms = 0;
      }
      for (int i = 0; i < run; ++i) {
        Vec in[kWidth];
#pragma GCC unroll 12
        for (int n = 0; n < kWidth; ++n) in[n] = load(x + n * kVec);
#pragma GCC unroll 12
        for (int m = 0; m < kRows; ++m) {
          const Vec weight = broadcast(w[m]);
#pragma GCC unroll 12
          for (int n = 0; n < kWidth; ++n) sum[m][n] += weight * in[n];
        }
        x += tile.input_stride;
        w += tile.panel_channels;
      }
      terms += run;
      left -= run;
    }
  }
  if (has_total) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) sum[m][n] = total[m][n] + sum[m][n];
    }
  }
  // Last, because a bias that is large beside the products would round every one of them.
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] += broadcast(tile.bias[m]);
  }
  if (tile.add != nullptr) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) sum[m][n] += load(tile.add + m * tile.add_stride + n * kVec);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
    float* y = tile.output + m * tile.output_stride;
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) {
      store(y + n * kVec, finish<kEpilogue>(sum[m][n], tile.slopes + m));
    }
  }
}

// One tile of at most kWidth vectors: as many as are left.
template <int kRows, int kWidth, Epilogue kEpilogue>
FXFAST_INLINE void conv_tail(const Tile& tile, int vectors) {
  if (vectors == kWidth) {
    conv_tile<kRows, kWidth, kEpilogue>(tile);
  } else if constexpr (kWidth > 1) {
    conv_tail<kRows, kWidth - 1, kEpilogue>(tile, vectors);
  }
}

template <int kRows, Epilogue kEpilogue>
void conv_rows(Tile tile, int samples) {
  constexpr int kWidth = tile_width(kRows);
  int vectors = (samples + kVec - 1) / kVec;
  for (; vectors >= kWidth; vectors -= kWidth) {
    conv_tile<kRows, kWidth, kEpilogue>(tile);
    tile.input += kWidth * kVec;
    tile.output += kWidth * kVec;
    if (tile.add != nullptr) tile.add += kWidth * kVec;
  }
  if constexpr (kWidth > 1) conv_tail<kRows, kWidth - 1, kEpilogue>(tile, vectors);
}

template <int kRows, Epilogue kEpilogue>
FXFAST_INLINE void conv_any_rows(const Tile& tile, int rows, int samples) {
  if (rows == kRows) {
    conv_rows<kRows, kEpilogue>(tile, samples);
  } else if constexpr (kRows > 1) {
    conv_any_rows<kRows - 1, kEpilogue>(tile, rows, samples);
  }
}

// One block of a layer of one output channel, its taps in the place of channels: as many taps at
// once as fit a tile and whose shifts fit the buffer.
template <Epilogue kEpilogue>
void conv_taps_block(const ConvTask& task, int start, int samples) {
  constexpr int kMaxSpan = 64;
  const float* input = task.input + start;
  const float* add = task.add == nullptr ? nullptr : task.add + start;
  float* output = task.output + start;
  constexpr int kRowFloats = kTapsBlock + kMaxSpan + 2 * kVec;
  static const float no_bias[kMaxRows] = {};
  float z[kMaxRows * kRowFloats];
  float partial[kTapsBlock + kVec];  // not the output, which may hold what is added last
  const int most_in_panel = panel_channels(task.taps);
  const int reach = 1 + kMaxSpan / task.dilation;
  const int most = reach < kMaxRows ? reach : kMaxRows;
  for (int k = 0, rows = 0; k < task.taps; k += rows) {
    const int first = k / most_in_panel * most_in_panel;
    const int left = task.taps - first;
    const int panel = left < most_in_panel ? left : most_in_panel;
    const int in_panel = first + panel - k;
    rows = in_panel < most ? in_panel : most;
    Tile tile;
    tile.input = input + (std::ptrdiff_t)k * task.dilation;
    tile.weights = task.weights + (std::ptrdiff_t)first * task.in_channels + (k - first);
    tile.bias = no_bias;
    tile.slopes = nullptr;
    tile.add = nullptr;
    tile.output = z;
    tile.input_stride = task.input_stride;
    tile.output_stride = kRowFloats;
    tile.tap_stride = 0;
    tile.panel_channels = panel;
    tile.taps = 1;
    tile.in_channels = task.in_channels;
    conv_any_rows<kMaxRows, Epilogue::kNone>(tile, rows, samples + (rows - 1) * task.dilation);
    const bool is_last = k + rows == task.taps;
    for (int t = 0; t < samples; t += kVec) {
      Vec sum = {};
      for (int m = 0; m < rows; ++m) sum += load(z + m * kRowFloats + m * task.dilation + t);
      if (k > 0) sum += load(partial + t);
      if (is_last) {
        sum += broadcast(task.bias[0]);
        if (add != nullptr) sum += load(add + t);
        sum = finish<kEpilogue>(sum, task.params);
        store(output + t, sum);
      } else {
        store(partial + t, sum);
      }
    }
  }
}

template <Epilogue kEpilogue>
void conv_taps(const ConvTask& task) noexcept {
  for (int t = 0; t < task.samples; t += kTapsBlock) {
    const int left = task.samples - t;
    conv_taps_block<kEpilogue>(task, t, left < kTapsBlock ? left : kTapsBlock);
  }
}

template <Epilogue kEpilogue>
void conv_panels(const ConvTask& task) noexcept {
  if (taps_as_channels(task.out_channels, task.in_channels, task.taps)) {
    return conv_taps<kEpilogue>(task);
  }
  // With one input channel the taps take the place of the channels: the same sums in the same
  // order, without an inner loop of length one.
  const bool single = task.in_channels == 1;
  const std::ptrdiff_t terms = (std::ptrdiff_t)task.in_channels * task.taps;
  Tile tile;
  tile.input_stride = single ? task.dilation : task.input_stride;
  tile.in_channels = single ? task.taps : task.in_channels;
  tile.tap_stride = single ? 0 : task.dilation;
  tile.taps = single ? 1 : task.taps;
  tile.output_stride = task.output_stride;
  tile.add_stride = task.add_stride;
  tile.input = task.input;
  const int most = panel_channels(task.out_channels);
  for (int first = 0; first < task.out_channels; first += most) {
    const int left = task.out_channels - first;
    const int panel = left < most ? left : most;
    tile.panel_channels = panel;
    for (int row = 0; row < panel; row += kMaxRows) {
      const int rows = panel - row < kMaxRows ? panel - row : kMaxRows;
      tile.weights = task.weights + first * terms + row;
      tile.bias = task.bias + first + row;
      tile.slopes = kEpilogue == Epilogue::kPrelu ? task.params + first + row : nullptr;
      tile.add = task.add == nullptr ? nullptr : task.add + (first + row) * task.add_stride;
      tile.output = task.output + (first + row) * task.output_stride;
      conv_any_rows<kMaxRows, kEpilogue>(tile, rows, task.samples);
    }
  }
}

void activate(const ActivateTask& task) noexcept;

// The cheap activations end the sums while they are in registers; the others are a second pass
// over rows that are still in the first-level cache.
void conv(const ConvTask& task) noexcept {
  if (task.activation == Activation::kRelu) return conv_panels<Epilogue::kRelu>(task);
  if (task.activation == Activation::kPrelu) return conv_panels<Epilogue::kPrelu>(task);
  conv_panels<Epilogue::kNone>(task);
  if (task.activation != Activation::kNone) {
    activate({task.output, task.output, task.params, task.output_stride, task.output_stride,
              task.out_channels, task.samples, task.activation});
  }
}

double multiply_add_burst(std::int64_t rounds) noexcept {
  constexpr int kChains = FXFAST_VECTOR_REGISTERS >= 32 ? 24 : 12;
  Vec sum[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sum[c] = broadcast((float)c);
  Vec a = broadcast(0.999f), b = broadcast(1e-3f);
  for (std::int64_t r = 0; r < rounds; ++r) {
    // The compiler must not see that a and b never change, or it may hoist work out.
    __asm__ volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * a + b;
  }
  Vec total = {};
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) total += sum[c];
  volatile float sink = total[0];
  (void)sink;
  return 2.0 * kVec * kChains * (double)rounds;
}

}  // namespace FXFAST_ISA_NAMESPACE
