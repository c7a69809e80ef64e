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
    constexpr int widths[9] = {0, 6, 6, 6, 4, 4, 4, 3, 3};
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

static FXFAST_INLINE void tanh_step(Due& due, const TanhNumbers& numbers) {
  store(due.next, tanh_with(load(due.next), numbers));
  due.next += kVec;
}

struct LayerTile {
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
  std::ptrdiff_t condition_stride, input_stride, tap_stride, output_stride, add_stride;
  std::ptrdiff_t head_sum_stride, head_stride;
  Due due;
  const TanhNumbers* numbers;
  int panel_channels, condition_channels, in_channels, taps, terms_per_tanh, tanh_at_once;
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
      store(tile.output + m * tile.output_stride + n * kVec, sum[m][n]);
  }
}

template <int kRows, int kWidth, Beside kBeside, bool kIsLong>
__attribute__((noinline)) void layer_tile(const LayerTile& tile) {
  constexpr bool kTanh = kBeside == Beside::kTanh || kBeside == Beside::kTanhAndHead;
  constexpr bool kHead = kBeside == Beside::kHead || kBeside == Beside::kTanhAndHead;
  // Tiles of many sums read the numbers of tanh from memory, or the compiler holds those in
  // registers and spills the sums.
  constexpr bool kHasRoom = !kIsLong && kRows * kWidth <= 16;
  const TanhNumbers held = tanh_numbers();
  const TanhNumbers& numbers = kHasRoom ? held : *tile.numbers;
  Vec sum[kRows][kWidth] = {};
  alignas(64) float totals[kIsLong ? kRows * kWidth * kVec : 1];
  // Unknown to the compiler, so that it keeps them in memory and the sums in registers.
  float* total = totals;
  __asm__("" : "+r"(total));
  bool has_total = false;
  const float* w = tile.condition_weights;
  const float* x = tile.condition;
  const std::ptrdiff_t panel = tile.panel_channels;
  for (int i = 0; i < tile.condition_channels; ++i) {
    add_term<kRows, kWidth>(sum, x, w);
    x += tile.condition_stride;
    w += panel;
  }
  Due due = tile.due;
  int countdown = tile.terms_per_tanh;
  const float* head_sum = tile.head_sum;
  float* head = tile.head;
  int terms = tile.condition_channels;
  const float* tap_input = tile.input;
  w = tile.weights;
  for (int k = 0; k < tile.taps; ++k, tap_input += tile.tap_stride) {
    if (kIsLong && terms > 0 && terms + tile.in_channels > kRunTerms) {
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
    for (int i = 0; i < tile.in_channels; ++i) {
      add_term<kRows, kWidth>(sum, x, w);
      if (kHead) {
#pragma GCC unroll 12
        for (int n = 0; n < kWidth; ++n) {
          store(head + n * kVec, load(head_sum + n * kVec) + load(x + n * kVec));
        }
        head += tile.head_stride;
        head_sum += tile.head_sum_stride;
      }
      x += tile.input_stride;
      w += panel;
      if (kTanh && --countdown == 0) {
        for (int q = tile.tanh_at_once; q > 0; --q) tanh_step(due, numbers);
        countdown = due.next == due.end ? kNever : tile.terms_per_tanh;
      }
    }
    terms += tile.in_channels;
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
    while (due.next != due.end) tanh_step(due, numbers);
  }
}

// layer_tile of the size that is left.
template <Beside kBeside, bool kIsLong, int kRows, int kWidth>
static FXFAST_INLINE void layer_tile_of_width(const LayerTile& tile, int width) {
  if (width == kWidth) {
    layer_tile<kRows, kWidth, kBeside, kIsLong>(tile);
  } else if constexpr (kWidth > 1) {
    layer_tile_of_width<kBeside, kIsLong, kRows, kWidth - 1>(tile, width);
  }
}
template <Beside kBeside, bool kIsLong, int kRows = kMaxRows>
static FXFAST_INLINE void any_layer_tile(const LayerTile& tile, int rows, int width) {
  if (rows == kRows) {
    layer_tile_of_width<kBeside, kIsLong, kRows, layer_width(kRows)>(tile, width);
  } else if constexpr (kRows > 1) {
    any_layer_tile<kBeside, kIsLong, kRows - 1>(tile, rows, width);
  }
}

// One stretch of `width` vectors: where it starts and its activations.
struct Stretch {
  int start, width;
  float* a;
  std::ptrdiff_t pitch() const { return width * kVec; }
};

// How many rows of the panel's `left` the next tile takes: as even as they go.
static FXFAST_INLINE int rows_of_tile(int left) {
  return left <= kMaxRows ? left : left >= 2 * kMaxRows ? kMaxRows : (left + 1) / 2;
}

// What a head that begins anew adds to.
alignas(64) static const float no_head[kMaxLayerWidth * kVec] = {};

static FXFAST_INLINE void add_to_head(const LayerTask& task, const Stretch& s) {
  for (int c = 0; c < task.channels; ++c) {
    const float* a = s.a + c * s.pitch();
    float* y = task.head + c * task.head_stride + s.start;
    const float* sum =
        task.head_sum == nullptr ? no_head : task.head_sum + c * task.head_sum_stride + s.start;
    for (int n = 0; n < s.width; ++n)
      store(y + n * kVec, load(sum + n * kVec) + load(a + n * kVec));
  }
}

// How many values are due at a time where there are more of them than terms: a divisor, so that
// the last time takes as many as the others.
static FXFAST_INLINE int tanh_at_once(int terms, int vectors) {
  int each = 1;
  while (each < vectors && (each * terms < vectors || vectors % each != 0)) ++each;
  return each;
}

static FXFAST_INLINE void set_due(LayerTile& tile, Due due, int terms) {
  const int vectors = (int)(due.end - due.next) / kVec;
  tile.due = due;
  tile.terms_per_tanh = vectors == 0 ? kNever : terms < vectors ? 1 : terms / vectors;
  tile.tanh_at_once = terms < vectors ? tanh_at_once(terms, vectors) : 1;
}

// The head and the 1x1 of a stretch. The values that are due are those of its last channels: their
// tanh runs beside the terms of the others.
static FXFAST_INLINE void end_stretch(const LayerTask& task, const Stretch& s, Due due,
                                      const TanhNumbers& numbers) {
  const int ready = task.channels - (int)((due.end - due.next) / s.pitch());
  if (ready == 0 || task.output == nullptr) {
    while (due.next != due.end) tanh_step(due, numbers);
  }
  if (task.output == nullptr) return add_to_head(task, s);
  LayerTile tile;
  tile.condition = tile.condition_weights = tile.slopes = nullptr;
  tile.condition_channels = 0;
  tile.condition_stride = 0;
  tile.input = s.a;
  tile.input_stride = s.pitch();
  tile.tap_stride = 0;
  tile.in_channels = task.channels;
  tile.taps = 1;
  set_due(tile, due, ready);
  tile.numbers = &numbers;
  tile.output_stride = task.output_stride;
  tile.add_stride = task.residual_stride;
  tile.head = task.head + s.start;
  tile.head_stride = task.head_stride;
  tile.head_sum = task.head_sum == nullptr ? no_head : task.head_sum + s.start;
  tile.head_sum_stride = task.head_sum == nullptr ? 0 : task.head_sum_stride;
  const int most = panel_channels(task.out_channels);
  for (int first = 0, panel; first < task.out_channels; first += panel) {
    panel = task.out_channels - first < most ? task.out_channels - first : most;
    tile.panel_channels = panel;
    for (int row = 0, rows = 0; row < panel; row += rows) {
      rows = rows_of_tile(panel - row);
      tile.weights = task.output_weights + first * task.channels + row;
      tile.bias = task.output_bias + first + row;
      tile.add = task.residual == nullptr
                     ? nullptr
                     : task.residual + (first + row) * task.residual_stride + s.start;
      tile.output = task.output + (first + row) * task.output_stride + s.start;
      if (first + row > 0) {
        any_layer_tile<Beside::kNothing, false>(tile, rows, s.width);
      } else if (kTanhBeside && due.next != due.end) {
        any_layer_tile<Beside::kTanhAndHead, false>(tile, rows, s.width);
      } else {
        any_layer_tile<Beside::kHead, false>(tile, rows, s.width);
      }
    }
  }
}

// The least width of the panels' tiles.
static FXFAST_INLINE int stretch_width(int channels, int out_channels) {
  const int width = layer_width(rows_of_tile(panel_channels(channels)));
  if (out_channels == 0) return width;
  const int out_width = layer_width(rows_of_tile(panel_channels(out_channels)));
  return out_width < width ? out_width : width;
}

enum class Finish { kInTile, kBeside, kAfter };

template <Finish kFinish, bool kIsLong>
void layer_stretches(const LayerTask& task) noexcept {
  alignas(64) float values[2][kMaxLayerChannels * kWidthOfMany * kVec];
  constexpr Beside kBeside = kFinish == Finish::kBeside ? Beside::kTanh : Beside::kNothing;
  LayerTile tile;
  const TanhNumbers numbers = tanh_numbers();
  tile.numbers = &numbers;
  const Due none = {nullptr, nullptr};
  const int terms = task.in_channels * task.taps;
  set_due(tile, none, terms);
  tile.condition_channels = task.condition_channels;
  tile.condition_stride = task.condition_stride;
  // With one input channel the taps take the place of the channels, as in conv_panels.
  const bool single = task.in_channels == 1;
  tile.input_stride = single ? task.dilation : task.input_stride;
  tile.in_channels = single ? task.taps : task.in_channels;
  tile.tap_stride = single ? 0 : task.dilation;
  tile.taps = single ? 1 : task.taps;
  tile.add = nullptr;
  tile.slopes = nullptr;
  tile.add_stride = 0;
  const int vectors = (task.samples + kVec - 1) / kVec;
  const int width = stretch_width(task.channels, task.output == nullptr ? 0 : task.out_channels);
  const int most = panel_channels(task.channels);
  Stretch before = {0, 0, values[1]};
  for (int at = 0; at < vectors; at += before.width) {
    const int left = vectors - at;
    const Stretch now = {at * kVec, left < width ? left : width,
                         before.a == values[0] ? values[1] : values[0]};
    tile.condition = task.condition + now.start;
    tile.input = task.input + now.start;
    tile.output_stride = now.pitch();
    bool before_is_open = at > 0;
    for (int first = 0, panel; first < task.channels; first += panel) {
      panel = task.channels - first < most ? task.channels - first : most;
      tile.panel_channels = panel;
      for (int row = 0, rows = 0; row < panel; row += rows) {
        rows = rows_of_tile(panel - row);
        const int channel = first + row;
        tile.condition_weights = task.condition_weights + first * task.condition_channels + row;
        tile.weights = task.weights + (std::ptrdiff_t)first * terms + row;
        tile.bias = task.bias + channel;
        if (kFinish == Finish::kInTile) tile.slopes = task.params + channel;
        tile.output = now.a + channel * now.pitch();
        any_layer_tile<kBeside, kIsLong>(tile, rows, now.width);
        if (kFinish == Finish::kBeside) {
          set_due(tile, {tile.output, tile.output + rows * now.pitch()}, terms);
        }
        if (kFinish == Finish::kAfter && task.activation != Activation::kNone) {
          activate({tile.output, tile.output, task.params, now.pitch(), now.pitch(), rows,
                    now.width * kVec, task.activation});
        }
        if (before_is_open) end_stretch(task, before, none, numbers);
        before_is_open = false;
      }
    }
    before = now;
  }
  if (vectors > 0) end_stretch(task, before, tile.due, numbers);
}

template <Finish kFinish>
void layer_of_any_length(const LayerTask& task) noexcept {
  if (task.condition_channels + task.in_channels * task.taps > kRunTerms) {
    return layer_stretches<kFinish, true>(task);
  }
  layer_stretches<kFinish, false>(task);
}

void layer(const LayerTask& task) noexcept {
  constexpr Finish kTanh = kTanhBeside ? Finish::kBeside : Finish::kAfter;
  switch (task.activation) {
    case Activation::kPrelu: return layer_of_any_length<Finish::kInTile>(task);
    case Activation::kTanh: return layer_of_any_length<kTanh>(task);
    default: return layer_of_any_length<Finish::kAfter>(task);
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
