// The tiled body of the weight gradient, compiled per instruction set right after
// kernels_body.inl and under the same rules.
//
// A vector register holds consecutive samples. A tile is `rows` output channels by `width` taps
// of one input channel: rows * width accumulators, each a lane-wise dot product over time, added
// up across its lanes at the end in a fixed order.

namespace FXFAST_ISA_NAMESPACE {

constexpr int kGradRows = 4;
// Accumulators, one vector of each tap's input and one of the gradient fill the registers.
constexpr int kGradWidth = FXFAST_VECTOR_REGISTERS >= 32 ? 6 : (FXFAST_HAS_FMA ? 3 : 2);

typedef float Quad __attribute__((vector_size(16), may_alias));

// By fours: lane by lane the compiler takes as long as for a hundred products.
static FXFAST_INLINE double sum_lanes(Vec v) {
  const Quad* quads = (const Quad*)&v;
  Quad sum = quads[0];
#pragma GCC unroll 4
  for (int q = 1; q < kVec / 4; ++q) sum += quads[q];
  return (double)((sum[0] + sum[2]) + (sum[1] + sum[3]));
}

struct GradTile {
  const float* input;  // of the tile's first tap
  const float* grad_output;
  double* grad;
  std::ptrdiff_t input_segment, grad_output_segment;
  std::ptrdiff_t grad_output_stride, grad_stride, dilation;
  int segments, samples;
  IntVec last;  // lanes of a segment's last vector that no vector before it has counted
};

template <int kRows, int kWidth, bool kMasked>
static FXFAST_INLINE void add_products(Vec (&sum)[kRows][kWidth], const GradTile& tile,
                                       const float* x, const float* g) {
  Vec in[kWidth];
#pragma GCC unroll 12
  for (int n = 0; n < kWidth; ++n) in[n] = load(x + n * tile.dilation);
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
    Vec grad = load(g + m * tile.grad_output_stride);
    if (kMasked) grad = (Vec)((IntVec)grad & tile.last);
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] += grad * in[n];
  }
}

template <int kRows, int kWidth>
__attribute__((noinline)) void grad_tile(const GradTile& tile) {
  Vec sum[kRows][kWidth] = {};
  const float* x = tile.input;
  const float* g = tile.grad_output;
  for (int s = 0; s < tile.segments; ++s) {
    int t = 0;
    for (; t + kVec <= tile.samples; t += kVec) {
      add_products<kRows, kWidth, false>(sum, tile, x + t, g + t);
    }
    if (t < tile.samples) {
      // The mask must stay in memory: kept in a register it drives an accumulator out.
      __asm__ volatile("" ::: "memory");
      const int at = tile.samples - kVec;
      add_products<kRows, kWidth, true>(sum, tile, x + at, g + at);
    }
    x += tile.input_segment;
    g += tile.grad_output_segment;
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) tile.grad[m * tile.grad_stride + n] += sum_lanes(sum[m][n]);
  }
}

template <int kRows, int kWidth>
void grad_width(const GradTile& tile, int width) {
  if (width == kWidth) {
    grad_tile<kRows, kWidth>(tile);
  } else if constexpr (kWidth > 1) {
    grad_width<kRows, kWidth - 1>(tile, width);
  }
}

template <int kRows>
void grad_rows(const GradTile& tile, int rows, int width) {
  if (rows == kRows) {
    grad_width<kRows, kGradWidth>(tile, width);
  } else if constexpr (kRows > 1) {
    grad_rows<kRows - 1>(tile, rows, width);
  }
}

void weight_grad(const WeightGradTask& task) noexcept {
  GradTile tile;
  tile.input_segment = task.input_segment;
  tile.grad_output_segment = task.grad_output_segment;
  tile.grad_output_stride = task.grad_output_stride;
  tile.grad_stride = task.grad_stride;
  tile.dilation = task.dilation;
  tile.segments = task.segments;
  tile.samples = task.samples;
  for (int lane = 0; lane < kVec; ++lane) {
    tile.last[lane] = lane >= kVec - task.samples % kVec ? -1 : 0;
  }
  for (int first = 0; first < task.out_channels; first += kGradRows) {
    const int left = task.out_channels - first;
    const int rows = left < kGradRows ? left : kGradRows;
    tile.grad_output = task.grad_output + first * task.grad_output_stride;
    for (int i = 0; i < task.in_channels; ++i) {
      for (int k = 0; k < task.taps; k += kGradWidth) {
        const int width = task.taps - k < kGradWidth ? task.taps - k : kGradWidth;
        tile.input = task.input + i * task.input_stride + (std::ptrdiff_t)k * task.dilation;
        tile.grad = task.grad + first * tile.grad_stride + (std::ptrdiff_t)i * task.taps + k;
        grad_rows<kGradRows>(tile, rows, width);
      }
    }
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
