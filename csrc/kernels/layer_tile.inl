// One layer of a WaveNet, tile by tile: its convolution, activation, sum for the head and 1x1 stay
// in registers and in the first-level cache. Compiled per instruction set after rows_body.inl and
// under the same rules; sums in the order of conv_tile, the condition first.

namespace FXFAST_ISA_NAMESPACE {

// Where there are 32 registers, a tile's sums leave room for a tanh beside them.
constexpr bool kTanhBeside = FXFAST_VECTOR_REGISTERS >= 32;

// How many vectors of time a tile of `rows` channels is wide. Many rows and few vectors: a vector
// across two cache lines costs two loads, and most taps of a dilated convolution are such.
constexpr int layer_width(int rows) {
#ifdef __SANITIZE_ADDRESS__
  // Under a sanitizer the wide tiles take the compiler many minutes.
  return rows > 0 ? 2 : 0;
#endif
  if (FXFAST_VECTOR_REGISTERS >= 32) {
    constexpr int widths[9] = {0, 6, 8, 6, 4, 4, 4, 3, 3};
    return widths[rows];
  }
  return tile_width(rows);
}
constexpr int kMaxLayerWidth = 8;
// No tile of the layers that have most channels is wider than this.
constexpr int kWidthOfMany = 4;

// Values whose tanh is due. It runs beside the multiply-adds of the next tile, a vector every few
// terms, because a tile of tanh alone is longer than the processor looks ahead.
struct Due {
  float* next;
  float* end;
};

template <bool kHeld>
static FXFAST_INLINE void tanh_step(Due& due, const TanhNumbers& numbers) {
  store(due.next, tanh_with<kHeld>(load(due.next), numbers));
  due.next += kVec;
}

// What the tiles of one kind have in common, in every stretch of one width. Apart from the tile,
// because short blocks would else spend their time on setting it up for each.
struct TileShape {
  const TanhNumbers* numbers;
  std::ptrdiff_t condition_stride, input_stride, tap_stride, output_stride, add_stride;
  std::ptrdiff_t head_sum_stride, head_stride;
  int condition_channels, in_channels, taps;
};

struct LayerTile {
  const TileShape* shape;
  const float* condition;
  const float* condition_weights;
  const float* input;
  const float* weights;
  const float* bias;
  const float* slopes;
  const float* add;  // or nullptr
  float* output;
  const float* head_sum;
  float* head;
  Due due;
  int panel_channels, terms_per_tanh, tanh_at_once;
};

template <int kRows, int kWidth>
static FXFAST_INLINE void add_term(Vec (&sum)[kRows][kWidth], const float* x, const float* w) {
  Vec in[kWidth];
#pragma GCC unroll 12
  for (int n = 0; n < kWidth; ++n) {
    in[n] = kRows == 1 ? load(x + n * kVec) : in_register(load(x + n * kVec));
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
    const Vec weight = broadcast(w[m]);
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] += weight * in[n];
  }
}

// What a tile does beside its sums: the tanh of the tile before, and the sum of its input (the
// activations of a layer) and the head.
enum class Beside { kNothing, kTanh, kHead, kTanhAndHead };

// A countdown that does not end.
constexpr int kNever = 1 << 30;

template <int kRows, int kWidth>
static FXFAST_INLINE void end_tile(const LayerTile& tile, Vec (&sum)[kRows][kWidth]) {
  const std::ptrdiff_t add_stride = tile.shape->add_stride;
  const std::ptrdiff_t output_stride = tile.shape->output_stride;
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n) sum[m][n] += broadcast(tile.bias[m]);
  }
  if (tile.add != nullptr) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) sum[m][n] += load(tile.add + m * add_stride + n * kVec);
    }
  }
  if (tile.slopes != nullptr) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) {
        sum[m][n] = finish<Epilogue::kPrelu>(sum[m][n], tile.slopes + m);
      }
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
    for (int n = 0; n < kWidth; ++n)
      store(tile.output + m * output_stride + n * kVec, sum[m][n]);
  }
}

template <int kRows, int kWidth, Beside kBeside, bool kIsLong>
__attribute__((noinline)) void layer_tile(const LayerTile& tile) {
  const TileShape& shape = *tile.shape;
  constexpr bool kTanh = kBeside == Beside::kTanh || kBeside == Beside::kTanhAndHead;
  constexpr bool kHead = kBeside == Beside::kHead || kBeside == Beside::kTanhAndHead;
  // Tiles of many sums read the numbers of tanh from memory, or the compiler holds those in
  // registers and spills the sums.
  constexpr bool kHasRoom = !kIsLong && kRows * kWidth <= 16;
  const TanhNumbers held = tanh_numbers();
  const TanhNumbers& numbers = kHasRoom ? held : *shape.numbers;
  Vec sum[kRows][kWidth] = {};
  alignas(64) float totals[kIsLong ? kRows * kWidth * kVec : 1];
  // Unknown to the compiler, so that it keeps them in memory and the sums in registers.
  float* total = totals;
  __asm__("" : "+r"(total));
  bool has_total = false;
  const float* w = tile.condition_weights;
  const float* x = tile.condition;
  const std::ptrdiff_t panel = tile.panel_channels;
  for (int i = 0; i < shape.condition_channels; ++i) {
    add_term<kRows, kWidth>(sum, x, w);
    x += shape.condition_stride;
    w += panel;
  }
  Due due = tile.due;
  int countdown = tile.terms_per_tanh;
  const float* head_sum = tile.head_sum;
  float* head = tile.head;
  int terms = shape.condition_channels;
  const float* tap_input = tile.input;
  w = tile.weights;
  for (int k = 0; k < shape.taps; ++k, tap_input += shape.tap_stride) {
    if (kIsLong && terms > 0 && terms + shape.in_channels > kRunTerms) {
      // One run is added to the others: see kRunTerms.
#pragma GCC unroll 12
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
        for (int n = 0; n < kWidth; ++n) {
          float* at = total + (m * kWidth + n) * kVec;
          store(at, has_total ? load(at) + sum[m][n] : sum[m][n]);
          sum[m][n] = Vec{};
        }
      }
      has_total = true;
      terms = 0;
    }
    x = tap_input;
    for (int i = 0; i < shape.in_channels; ++i) {
      add_term<kRows, kWidth>(sum, x, w);
      if (kHead) {
#pragma GCC unroll 12
        for (int n = 0; n < kWidth; ++n) {
          store(head + n * kVec, load(head_sum + n * kVec) + load(x + n * kVec));
        }
        head += shape.head_stride;
        head_sum += shape.head_sum_stride;
      }
      x += shape.input_stride;
      w += panel;
      if (kTanh && --countdown == 0) {
        for (int q = tile.tanh_at_once; q > 0; --q) tanh_step<kHasRoom>(due, numbers);
        countdown = due.next == due.end ? kNever : tile.terms_per_tanh;
      }
    }
    terms += shape.in_channels;
  }
  if (kIsLong && has_total) {
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 12
      for (int n = 0; n < kWidth; ++n) sum[m][n] += load(total + (m * kWidth + n) * kVec);
    }
  }
  end_tile<kRows, kWidth>(tile, sum);
  if (kTanh) {
    while (due.next != due.end) tanh_step<kHasRoom>(due, numbers);
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
