// Several streams of a wide layer, whose weights do not fit the caches: a run of rows of one group
// of units is read once for all streams, and the next run is fetched meanwhile. Included by
// recurrent_body.inl.

// Streams that share the registers.
constexpr int kWideStreams = kVec == kUnitBlock ? 2 : 1;

// What the streams of a layer read of one kind, x or h: a row of values each.
struct WideRows {
  const float* values[kMaxRecurrentStreams];
  int rows;
};

template <int kVecs>
using WideSums = float[kMaxRecurrentStreams][kVecs * kVec];

// One run of rows from `from` on of kStreams streams from `first` on, into or onto their sums.
template <typename G, int kStreams>
__attribute__((noinline)) void wide_tile(WideSums<G::kVectors>& all, const float* w,
                                         const WideRows& x, int first, int from, int rows) {
  constexpr int kVecs = G::kVectors;
  const float* values[kStreams];
  for (int s = 0; s < kStreams; ++s) values[s] = x.values[first + s];
  Sums<kStreams, kVecs> sums;
  clear<kStreams, kVecs>(sums);
  run_sums<G, 0, kStreams, kVecs>(sums, w, values, 1, rows, from);
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      float* total = all[first + s] + v * kVec;
      store(total, from == 0 ? sums[s][v] : sums[s][v] + load(total));
    }
  }
}

template <typename G>
static void wide_sums(WideSums<G::kVectors>& all, const float* w, const WideRows& x, int streams) {
  constexpr std::ptrdiff_t kCacheLine = 16;
  for (int from = 0; from < x.rows; from += kRecurrentRun) {
    const int rows = x.rows - from < kRecurrentRun ? x.rows - from : kRecurrentRun;
    const float* run = w + from * G::kRow;
    const float* next = run + rows * G::kRow;
    const std::ptrdiff_t share = (rows * G::kRow / kCacheLine + streams - 1) / streams;
    for (int s = 0; s < streams;) {
      const bool together = s + kWideStreams <= streams;
      for (std::ptrdiff_t i = 0; i < share * (together ? kWideStreams : 1); ++i) {
        __builtin_prefetch(next, 0, 2);
        next += kCacheLine;
      }
      if (together) {
        wide_tile<G, kWideStreams>(all, run, x, s, from, rows);
      } else {
        wide_tile<G, 1>(all, run, x, s, from, rows);
      }
      s += together ? kWideStreams : 1;
    }
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

// One sample of the units of a group, from `first` on, of all streams.
template <Cell kCell, typename G>
static void wide_group(const G& group, const RecurrentTask& task, const RecurrentStream* streams,
                       int count, const WideRows& x, const WideRows& h, int first, int t) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  WideSums<G::kVectors> inputs, gates;
  if (x.rows > 1) wide_sums<G>(inputs, group.weights, x, count);
  wide_sums<G>(gates, group.weights + x.rows * G::kRow, h, count);
  for (int s = 0; s < count; ++s) {
    float* state = streams[s].state;
    wide_cells<kCell>(group, x.values[s], x.rows, inputs[s], gates[s], h.values[s] + first,
                      state + block + first, state + (t & 1 ? 0 : 2 * block) + first);
  }
}

template <Cell kCell, int kWidth>
static void wide_block(const RecurrentTask& task, const RecurrentStream* streams, int count,
                       const WideRows& x, const WideRows& h, int first, int t) {
  constexpr int kVecs = kWidth < kVec ? 2 : 4, kUnits = kWidth < kVec ? kWidth : kVec;
  auto group = group_of<kWidth, kVecs>(task, h.rows, first);
  for (int unit = 0; unit < kWidth; unit += kUnits) {
    wide_group<kCell>(group, task, streams, count, x, h, first + unit, t);
    group.weights += kUnits, group.bias += kUnits;
  }
}

// A layer over all samples. h and the next h change places with every sample; x of a sample comes
// together in the room after them.
template <Cell kCell>
static void run_wide(const RecurrentTask& task, const RecurrentStream* streams, int count) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  const int lanes = recurrent_lanes(task.units);
  WideRows x = {{}, task.in_channels}, h = {{}, lanes};
  for (int t = 0; t < task.samples; ++t) {
    for (int s = 0; s < count; ++s) {
      float* state = streams[s].state;
      float* gathered = state + 3 * block;
      const float* input = streams[s].input + t;
      for (int i = 0; i < task.in_channels; ++i) gathered[i] = input[i * task.input_stride];
      x.values[s] = gathered;
      h.values[s] = state + (t & 1 ? 2 * block : 0);
    }
    int first = 0;
    for (; lanes - first >= kUnitBlock; first += kUnitBlock) {
      wide_block<kCell, kUnitBlock>(task, streams, count, x, h, first, t);
    }
    if (first < lanes) wide_block<kCell, kUnitBlock / 2>(task, streams, count, x, h, first, t);
    for (int s = 0; s < count; ++s) {
      const float* now = streams[s].state + (t & 1 ? 0 : 2 * block);
      float* output = streams[s].output + t;
      for (int u = 0; u < task.units; ++u) output[u * task.output_stride] = now[u];
    }
  }
  if ((task.samples & 1) == 0) return;
  for (int s = 0; s < count; ++s) {
    copy_lanes(streams[s].state + 2 * block, streams[s].state, lanes);
  }
}
