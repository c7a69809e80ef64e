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
  const float* last_grad;  // the last samples of grad_output, zero where already counted
  double* grad;
  std::ptrdiff_t grad_output_stride, grad_stride, dilation;
  int samples;
};

template <int kRows, int kWidth>
static FXFAST_INLINE void add_products(Vec (&sum)[kRows][kWidth], const float* x,
                                       std::ptrdiff_t dilation, const float* g,
                                       std::ptrdiff_t g_stride) {
  Vec in[kWidth];
#pragma GCC unroll 12
  for (int n = 0; n < kWidth; ++n) in[n] = load(x + n * dilation);
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
    const Vec grad = load(g + m * g_stride);
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] += grad * in[n];
  }
}

template <int kRows, int kWidth>
__attribute__((noinline)) void grad_tile(const GradTile& tile) {
  Vec sum[kRows][kWidth] = {};
  int t = 0;
  for (; t + kVec <= tile.samples; t += kVec) {
    add_products<kRows, kWidth>(sum, tile.input + t, tile.dilation, tile.grad_output + t,
                                tile.grad_output_stride);
  }
  if (t < tile.samples) {
    add_products<kRows, kWidth>(sum, tile.input + tile.samples - kVec, tile.dilation,
                                tile.last_grad, kVec);
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

// Fewer samples than a vector: there is no full vector inside the rows to load.
void weight_grad_short(const WeightGradTask& task) noexcept {
  for (int o = 0; o < task.out_channels; ++o) {
    double* grad = task.grad + o * task.grad_stride;
    const float* g = task.grad_output + o * task.grad_output_stride;
    for (int i = 0; i < task.in_channels; ++i) {
      const float* x = task.input + i * task.input_stride;
      for (int k = 0; k < task.taps; ++k, x += task.dilation) {
        float sum = 0.0f;
        for (int t = 0; t < task.samples; ++t) sum += g[t] * x[t];
        *grad++ += (double)sum;
      }
    }
  }
}

void weight_grad(const WeightGradTask& task) noexcept {
  if (task.samples < kVec) return weight_grad_short(task);
  GradTile tile;
  tile.grad_output_stride = task.grad_output_stride;
  tile.grad_stride = task.grad_stride;
  tile.dilation = task.dilation;
  tile.samples = task.samples;
  const int counted = kVec - task.samples % kVec;  // of the last vector, by the vectors before
  for (int first = 0; first < task.out_channels; first += kGradRows) {
    const int left = task.out_channels - first;
    const int rows = left < kGradRows ? left : kGradRows;
    tile.grad_output = task.grad_output + first * task.grad_output_stride;
    float last_grad[kGradRows * kVec] = {};
    tile.last_grad = last_grad;
    for (int m = 0; m < rows; ++m) {
      const float* last = tile.grad_output + m * task.grad_output_stride + task.samples - kVec;
      for (int lane = counted; lane < kVec; ++lane) last_grad[m * kVec + lane] = last[lane];
    }
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
