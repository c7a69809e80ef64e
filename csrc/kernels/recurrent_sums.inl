// Some units of a recurrent layer over one sample of some streams; included by recurrent_body.inl.
// A vector holds consecutive units of one gate, or, where a block has half a vector's units, of
// two gates; weights are read row by row, x and h are broadcast. A stream is computed the same way
// whatever its neighbours are, and streams share each load of a weight.

// The first weights and bias of some units of a block of kWidth units, whose four gates stand in
// kVecs vectors a row.
template <int kWidth, int kVecs>
struct Group {
  static constexpr std::ptrdiff_t kRow = 4 * kWidth;
  static constexpr std::ptrdiff_t kStep = kVecs == 4 ? kWidth : kVec;
  static constexpr int kVectors = kVecs;
  const float* weights;
  const float* bias;
};

template <int kStreams, int kVecs>
using Sums = Vec[kStreams][kVecs];

template <typename G, int kStreams, int kVecs>
static FXFAST_INLINE void add_row(Sums<kStreams, kVecs>& sums, const float* w,
                                  const float* const (&x)[kStreams], std::ptrdiff_t at) {
  Vec values[kStreams];
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) values[s] = broadcast(x[s][at]);
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    // Loaded once for all streams: the compiler would read it anew for each.
    const Vec weight =
        kStreams > 1 ? settled_value(load(w + v * G::kStep)) : load(w + v * G::kStep);
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) sums[s][v] += weight * values[s];
  }
}

template <int kStreams, int kVecs>
static FXFAST_INLINE void clear(Sums<kStreams, kVecs>& sums) {
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[s][v] = Vec{};
  }
}

template <int kStreams, int kVecs>
static FXFAST_INLINE void add(Sums<kStreams, kVecs>& sums, const Sums<kStreams, kVecs>& more) {
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[s][v] += more[s][v];
  }
}

// One run of rows in two chains. kRows says how many where that is known, and is 0 otherwise.
template <typename G, int kRows, int kStreams, int kVecs>
static FXFAST_INLINE void run_sums(Sums<kStreams, kVecs>& sums, const float* w,
                                   const float* const (&x)[kStreams], std::ptrdiff_t x_step,
                                   int any_rows) {
  Sums<kStreams, kVecs> odd;
  clear<kStreams, kVecs>(sums);
  clear<kStreams, kVecs>(odd);
  if constexpr (kRows > 0) {
#pragma GCC unroll 32
    for (int j = 0; j < kRows; j += 2) {
      add_row<G, kStreams, kVecs>(sums, w + j * G::kRow, x, j * x_step);
      add_row<G, kStreams, kVecs>(odd, w + (j + 1) * G::kRow, x, (j + 1) * x_step);
    }
  } else {
    int j = 0;
    for (; j + 2 <= any_rows; j += 2, w += 2 * G::kRow) {
      add_row<G, kStreams, kVecs>(sums, w, x, j * x_step);
      add_row<G, kStreams, kVecs>(odd, w + G::kRow, x, (j + 1) * x_step);
    }
    if (j < any_rows) add_row<G, kStreams, kVecs>(sums, w, x, j * x_step);
  }
  add<kStreams, kVecs>(sums, odd);
}

template <typename G, int kRows, int kStreams, int kVecs>
static FXFAST_INLINE void all_sums(Sums<kStreams, kVecs>& sums, const float* w,
                                   const float* const (&first)[kStreams], std::ptrdiff_t x_step,
                                   int rows) {
  if constexpr (kRows > 0) {
    run_sums<G, kRows, kStreams, kVecs>(sums, w, first, x_step, rows);
  } else {
    const int run = rows < kRecurrentRun ? rows : kRecurrentRun;
    run_sums<G, 0, kStreams, kVecs>(sums, w, first, x_step, run);
    for (int j = run; j < rows; j += kRecurrentRun) {
      const float* x[kStreams];
      for (int s = 0; s < kStreams; ++s) x[s] = first[s] + j * x_step;
      Sums<kStreams, kVecs> more;
      run_sums<G, 0, kStreams, kVecs>(more, w + j * G::kRow, x, x_step,
                                      rows - j < kRecurrentRun ? rows - j : kRecurrentRun);
      add<kStreams, kVecs>(sums, more);
    }
  }
}

// What one stream reads and writes at one sample, from the first unit of the group on.
template <int kStreams>
struct Step {
  const float* x[kStreams];
  const float* h[kStreams];  // of all units
  const float* old_h[kStreams];
  float* new_h[kStreams];
  float* c[kStreams];
  std::ptrdiff_t x_step;
  int x_rows, h_rows;
};

// The parts of the gates that read x, and the bias.
template <typename G, int kStreams, int kVecs>
static FXFAST_INLINE void input_sums(Sums<kStreams, kVecs>& sums, const G& group,
                                     const Step<kStreams>& step) {
  Vec bias[kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) bias[v] = load(group.bias + v * G::kStep);
  if (step.x_rows == 1) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sums[s][v] = bias[v];
    }
    add_row<G, kStreams, kVecs>(sums, group.weights, step.x, 0);
    return;
  }
  all_sums<G, 0, kStreams, kVecs>(sums, group.weights, step.x, step.x_step, step.x_rows);
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[s][v] += bias[v];
  }
}

template <Cell kCell, typename V>
static FXFAST_INLINE void cell(const V (&gates)[4], const float* old_h, float* c, float* new_h) {
  V memory = load_as<V>(kCell == Cell::kLstm ? c : old_h);
  store_as(new_h, whole_cell<kCell>(gates, memory));
  if (kCell == Cell::kLstm) store_as(c, memory);
}

#if FXFAST_VECTOR_FLOATS == 16
typedef float HalfVec __attribute__((vector_size(2 * FXFAST_VECTOR_FLOATS)));
static FXFAST_INLINE HalfVec low_half(Vec v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
}
static FXFAST_INLINE HalfVec high_half(Vec v) {
  return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
}
#endif

// From the sums of one stream to its new h: vectors of one gate each, or of two.
template <Cell kCell, int kVecs>
static FXFAST_INLINE void cells(const Vec (&gates)[kVecs], const float* old_h, float* c,
                                float* new_h) {
  if constexpr (kVecs == 4) {
    cell<kCell>(gates, old_h, c, new_h);
  }
#if FXFAST_VECTOR_FLOATS == 16
  if constexpr (kVecs == 2) {
    const HalfVec halves[4] = {low_half(gates[0]), high_half(gates[0]), low_half(gates[1]),
                               high_half(gates[1])};
    cell<kCell>(halves, old_h, c, new_h);
  }
#endif
}

// kRows: the rows of h where they are known, or 0.
template <Cell kCell, int kRows, int kStreams, typename G>
static FXFAST_INLINE void group_step(const G& group, const Step<kStreams>& step) {
  constexpr int kVecs = G::kVectors;
  Sums<kStreams, kVecs> inputs, gates;
  input_sums<G, kStreams, kVecs>(inputs, group, step);
  all_sums<G, kRows, kStreams, kVecs>(gates, group.weights + step.x_rows * G::kRow, step.h, 1,
                                      step.h_rows);
  add<kStreams, kVecs>(gates, inputs);
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
    cells<kCell, kVecs>(gates[s], step.old_h[s], step.c[s], step.new_h[s]);
  }
}
