// Several streams of a wide layer, whose weights do not fit the caches: a run of rows of one group
// of units is read once for all streams, and the next run is fetched meanwhile. Included by
// recurrent_body.inl.

// Streams that share the registers.
constexpr int kWideStreams = kVec == kUnitBlock ? 4 : kVec == 8 ? 3 : 1;

// What the streams of a layer read of one kind, x or h: a row of values each.
struct WideRows {
  const float* values[kMaxRecurrentStreams];
  int rows;
};

template <int kVecs>
using WideSums = float[kMaxRecurrentStreams][kVecs * kVec];

// Cache lines that a tile fetches for later, some with every few rows: all at once they would wait
// for each other, and the loads of the rows with them.
struct Ahead {
  const float* next;
  int lines;  // with every kAheadRows rows
};
constexpr int kAheadRows = 4;
constexpr int kLineFloats = 16;

// Every second of `rows` rows, the even or the odd ones, into `sums`.
template <typename G, int kStreams, int kVecs>
static FXFAST_INLINE void sum_every_second(Sums<kStreams, kVecs>& sums, const float* w,
                                           const float* const (&values)[kStreams], int rows,
                                           Ahead& ahead) {
  // Of 16 registers none is left for the weights of a second row.
  constexpr int kUnrolled = kVec == 8 ? 1 : kAheadRows;
  clear<kStreams, kVecs>(sums);
  int j = 0;
  for (; j + 2 * kAheadRows <= rows + 1; j += 2 * kAheadRows, w += 2 * kAheadRows * G::kRow) {
    for (int i = 0; i < ahead.lines; ++i, ahead.next += kLineFloats) {
      __builtin_prefetch(ahead.next, 0, 2);
    }
#pragma GCC unroll kUnrolled
    for (int k = 0; k < 2 * kAheadRows; k += 2) {
      add_row<G, kStreams, kVecs>(sums, w + k * G::kRow, values, j + k);
      if (kVec == 8) __asm__ volatile("" : : : "memory");
    }
  }
  for (; j < rows; j += 2, w += 2 * G::kRow) add_row<G, kStreams, kVecs>(sums, w, values, j);
}

// One run of rows from `from` on of kStreams streams from `first` on, into or onto their sums: all
// even rows before the odd ones, so that the sums of four streams have registers.
template <typename G, int kStreams>
__attribute__((noinline)) void wide_tile(WideSums<G::kVectors>& all, const float* w,
                                         const WideRows& x, int first, int from, int rows,
                                         Ahead ahead) {
  constexpr int kVecs = G::kVectors;
  const float* values[kStreams];
  for (int s = 0; s < kStreams; ++s) values[s] = x.values[first + s] + from;
  Sums<kStreams, kVecs> sums, even;
  sum_every_second<G, kStreams, kVecs>(sums, w, values, rows, ahead);
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) even[s][v] = sums[s][v];
    ++values[s];
  }
  __asm__ volatile("" : : "r"(&even) : "memory");
  sum_every_second<G, kStreams, kVecs>(sums, w + G::kRow, values, rows - 1, ahead);
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      float* total = all[first + s] + v * kVec;
      sums[s][v] = even[s][v] + sums[s][v];
      store(total, from == 0 ? sums[s][v] : sums[s][v] + load(total));
    }
  }
}

template <typename G, int kStreams>
static FXFAST_INLINE void wide_tiles(WideSums<G::kVectors>& all, const float* run,
                                     const WideRows& x, int from, int rows, int& s, int streams,
                                     Ahead& ahead) {
  for (; s + kStreams <= streams; s += kStreams) {
    wide_tile<G, kStreams>(all, run, x, s, from, rows, ahead);
    ahead.next += rows / kAheadRows * ahead.lines * kLineFloats;
  }
}

template <typename G>
static void wide_sums(WideSums<G::kVectors>& all, const float* w, const WideRows& x, int streams) {
  const int tiles = (streams + kWideStreams - 1) / kWideStreams;
  for (int from = 0; from < x.rows; from += kRecurrentRun) {
    const int rows = x.rows - from < kRecurrentRun ? x.rows - from : kRecurrentRun;
    const float* run = w + from * G::kRow;
    const int times = rows / kAheadRows * tiles;
    const int all_lines = (int)(rows * G::kRow / kLineFloats);
    Ahead ahead = {run + rows * G::kRow, times > 0 ? (all_lines + times - 1) / times : 0};
    int s = 0;
    wide_tiles<G, kWideStreams>(all, run, x, from, rows, s, streams, ahead);
    if constexpr (kWideStreams > 2) wide_tiles<G, 2>(all, run, x, from, rows, s, streams, ahead);
    wide_tiles<G, 1>(all, run, x, from, rows, s, streams, ahead);
  }
}

// From the sums of one stream to its new h; `inputs` is not read for one x.
template <Cell kCell, typename G>
__attribute__((noinline)) void wide_cells(const G& group, const float* x, int x_rows,
                                          const float* inputs, const float* gates,
                                          const float* old_h, float* c, float* new_h) {
  constexpr int kVecs = G::kVectors;
  Sums<1, kVecs> sums;
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const Vec bias = load(group.bias + v * G::kStep);
    sums[0][v] = x_rows > 1 ? load(inputs + v * kVec) + bias : bias;
  }
  if (x_rows == 1) add_row<G, 1, kVecs>(sums, group.weights, {x}, 0);
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) sums[0][v] = load(gates + v * kVec) + sums[0][v];
  cells<kCell, kVecs>(sums[0], old_h, c, new_h);
}

// What the streams of a layer read and write at one sample.
struct WideStep {
  WideRows x, h;
  float* c[kMaxRecurrentStreams];
  float* new_h[kMaxRecurrentStreams];
};

// One sample of the units of a group, from `first` on, of all streams.
template <Cell kCell, typename G>
static void wide_group(const G& group, const WideStep& step, int count, int first) {
  WideSums<G::kVectors> inputs, gates;
  const WideRows &x = step.x, &h = step.h;
  if (x.rows > 1) wide_sums<G>(inputs, group.weights, x, count);
  wide_sums<G>(gates, group.weights + x.rows * G::kRow, h, count);
  for (int s = 0; s < count; ++s) {
    wide_cells<kCell>(group, x.values[s], x.rows, inputs[s], gates[s], h.values[s] + first,
                      step.c[s] + first, step.new_h[s] + first);
  }
}

template <Cell kCell, int kWidth>
static void wide_block(const RecurrentTask& task, const WideStep& step, int count, int first) {
  constexpr int kVecs = kWidth < kVec ? 2 : 4, kUnits = kWidth < kVec ? kWidth : kVec;
  auto group = group_of<kWidth, kVecs>(task, step.h.rows, first);
  for (int unit = 0; unit < kWidth; unit += kUnits) {
    wide_group<kCell>(group, step, count, first + unit);
    group.weights += kUnits, group.bias += kUnits;
  }
}

// The x of kVec samples from `input` on, sample by sample and `stride` apart.
static void gather_inputs(const float* input, const RecurrentTask& task, std::ptrdiff_t stride,
                          float* gathered) {
  for (int i = 0; i < task.in_channels; i += kVec) {
    Vec v[kVec];
#pragma GCC unroll 16
    for (int k = 0; k < kVec; ++k) {
      v[k] = i + k < task.in_channels ? load(input + (i + k) * task.input_stride) : Vec{};
    }
    transpose(v);
#pragma GCC unroll 16
    for (int k = 0; k < kVec; ++k) store(gathered + k * stride + i, v[k]);
  }
}

// A layer over all samples, kVec of them at a time: a sample of a row is a cache line of its own,
// so x comes from the rows, and h goes to them, in whole vectors.
template <Cell kCell>
static void run_wide(const RecurrentTask& task, const RecurrentStream* streams, int count) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  const std::ptrdiff_t x_block = gate_block_floats(task.in_channels);
  const int lanes = recurrent_lanes(task.units);
  static_assert(kHistory <= kWideSamples);
  WideStep step;
  step.x.rows = task.in_channels, step.h.rows = lanes;
  for (int t = 0; t < task.samples; ++t) {
    const int now = t % kHistory;
    for (int s = 0; s < count; ++s) {
      float* gathered = streams[s].state + 3 * block;
      float* history = gathered + kWideSamples * x_block;
      if (task.in_channels > 1 && t % kVec == 0) {
        gather_inputs(streams[s].input + t, task, x_block, gathered + now * x_block);
      }
      step.x.values[s] = task.in_channels > 1 ? gathered + now * x_block : streams[s].input + t;
      step.h.values[s] = now == 0 ? streams[s].state : history + (now - 1) * block;
      step.c[s] = streams[s].state + block;
      step.new_h[s] = history + now * block;
    }
    int first = 0;
    for (; lanes - first >= kUnitBlock; first += kUnitBlock) {
      wide_block<kCell, kUnitBlock>(task, step, count, first);
    }
    if (first < lanes) wide_block<kCell, kUnitBlock / 2>(task, step, count, first);
    if (now < kHistory - 1 && t + 1 < task.samples) continue;
    for (int s = 0; s < count; ++s) {
      const float* history = step.new_h[s] - now * block;
      store_history(history, (int)block, task, streams[s].output + t - now);
      copy_lanes(step.new_h[s], streams[s].state, lanes);
    }
  }
}
