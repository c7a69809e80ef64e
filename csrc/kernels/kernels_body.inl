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

enum class Epilogue { kNone, kRelu, kPrelu };

struct Tile {
  const float* input;
  const float* weights;  // first channel of the tile in its panel
  const float* bias;
  const float* slopes;
  float* output;
  std::ptrdiff_t input_stride, output_stride, tap_stride, panel_channels;
  int taps, in_channels;
};

// Products are summed in runs of this many, and the runs' sums are then added up: the rounding
// error grows with the square root of the longest chain, so a convolution of 1000 terms is as
// accurate as a blocked matrix product. Shorter sums than one run pay nothing for it.
constexpr int kRunTerms = 64;

template <int kRows, int kWidth, Epilogue kEpilogue>
__attribute__((noinline)) void conv_tile(const Tile& tile) {
  Vec sum[kRows][kWidth], total[kRows][kWidth];
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] = broadcast(tile.bias[m]);
  }
  const float* w = tile.weights;
  const float* tap_input = tile.input;
  int terms = 0;
  bool has_total = false;
  for (int k = 0; k < tile.taps; ++k, tap_input += tile.tap_stride) {
    const float* x = tap_input;
    for (int left = tile.in_channels; left > 0;) {
      const int run = left < kRunTerms ? left : kRunTerms;
      if (terms + run > kRunTerms) {
#pragma GCC unroll 12
        for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
          for (int n = 0; n < kWidth; ++n) {
            total[m][n] = has_total ? total[m][n] + sum[m][n] : sum[m][n];
            sum[m][n] = Vec{};
          }
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
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
    float* y = tile.output + m * tile.output_stride;
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) {
      Vec value = has_total ? total[m][n] + sum[m][n] : sum[m][n];
      if (kEpilogue == Epilogue::kRelu) value = select(value > 0.0f, value, Vec{});
      if (kEpilogue == Epilogue::kPrelu) {
        value = select(value > 0.0f, value, value * tile.slopes[m]);
      }
      store(y + n * kVec, value);
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

template <Epilogue kEpilogue>
void conv_panels(const ConvTask& task) noexcept {
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
  tile.input = task.input;
  for (int first = 0; first < task.out_channels; first += kPanelChannels) {
    const int left = task.out_channels - first;
    const int panel = left < kPanelChannels ? left : kPanelChannels;
    tile.panel_channels = panel;
    for (int row = 0; row < panel; row += kMaxRows) {
      const int rows = panel - row < kMaxRows ? panel - row : kMaxRows;
      tile.weights = task.weights + first * terms + row;
      tile.bias = task.bias + first + row;
      tile.slopes = kEpilogue == Epilogue::kPrelu ? task.slopes + first + row : nullptr;
      tile.output = task.output + (first + row) * task.output_stride;
      conv_any_rows<kMaxRows, kEpilogue>(tile, rows, task.samples);
    }
  }
}

template <Vec (*kFunction)(Vec)>
void map_rows(const ConvTask& task) noexcept {
  for (int m = 0; m < task.out_channels; ++m) {
    float* row = task.output + m * task.output_stride;
    for (int t = 0; t < task.samples; t += kVec) store(row + t, kFunction(load(row + t)));
  }
}

void conv(const ConvTask& task) noexcept {
  switch (task.activation) {
    case Activation::kNone: return conv_panels<Epilogue::kNone>(task);
    case Activation::kRelu: return conv_panels<Epilogue::kRelu>(task);
    case Activation::kPrelu: return conv_panels<Epilogue::kPrelu>(task);
    case Activation::kTanh: conv_panels<Epilogue::kNone>(task); return map_rows<tanh_of>(task);
    case Activation::kSigmoid:
      conv_panels<Epilogue::kNone>(task);
      return map_rows<sigmoid_of>(task);
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
