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

// One run of rows in two chains, the even one from what `sums` holds on. kRows says how many rows
// where that is known, and is 0 otherwise.
template <typename G, int kRows, int kStreams, int kVecs>
static FXFAST_INLINE void run_sums(Sums<kStreams, kVecs>& sums, const float* w,
                                   const float* const (&x)[kStreams], std::ptrdiff_t x_step,
                                   int any_rows, std::ptrdiff_t from = 0) {
  Sums<kStreams, kVecs> odd;
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
      add_row<G, kStreams, kVecs>(sums, w, x, from + j * x_step);
      add_row<G, kStreams, kVecs>(odd, w + G::kRow, x, from + (j + 1) * x_step);
    }
    if (j < any_rows) add_row<G, kStreams, kVecs>(sums, w, x, from + j * x_step);
  }
  add<kStreams, kVecs>(sums, odd);
}

// All rows, the first run from what `sums` holds on.
template <typename G, int kRows, int kStreams, int kVecs>
static FXFAST_INLINE void all_sums(Sums<kStreams, kVecs>& sums, const float* w,
                                   const float* const (&x)[kStreams], std::ptrdiff_t x_step,
                                   int rows) {
  if constexpr (kRows > 0) {
    run_sums<G, kRows, kStreams, kVecs>(sums, w, x, x_step, rows);
  } else {
    const int run = rows < kRecurrentRun ? rows : kRecurrentRun;
    run_sums<G, 0, kStreams, kVecs>(sums, w, x, x_step, run);
    // What is summed so far stays in memory: a run wants all registers.
    Sums<kStreams, kVecs> total;
    for (int j = run; j < rows; j += kRecurrentRun) {
      const int left = rows - j;
#pragma GCC unroll 4
      for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) total[s][v] = sums[s][v];
      }
      __asm__ volatile("" : : "r"(&total) : "memory");
      clear<kStreams, kVecs>(sums);
      run_sums<G, 0, kStreams, kVecs>(sums, w + j * G::kRow, x, x_step,
                                      left < kRecurrentRun ? left : kRecurrentRun, j * x_step);
      __asm__ volatile("" : : "r"(&total) : "memory");
      add<kStreams, kVecs>(sums, total);
    }
  }
}

// What streams read and write at one sample, from the first unit of a group on. kInputs: how many
// x there are where that is known, or 0.
template <int kStreams, int kInputs>
struct Step {
  const float* x[kStreams];
  const float* h[kStreams];  // of all units
  const float* old_h[kStreams];
  float* new_h[kStreams];
  float* c[kStreams];
  std::ptrdiff_t x_step;
  int x_rows, h_rows;
};

template <typename G, int kStreams, int kVecs>
static FXFAST_INLINE void load_bias(Sums<kStreams, kVecs>& sums, const G& group) {
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[s][v] = load(group.bias + v * G::kStep);
  }
}

template <typename G, int kStreams, int kVecs>
static FXFAST_INLINE void add_bias(Sums<kStreams, kVecs>& sums, const G& group) {
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[s][v] += load(group.bias + v * G::kStep);
  }
}

// The parts of the gates that read x, with the bias. Not inline: it wants all registers.
// `other` is the x of the second stream.
template <typename G, int kStreams>
__attribute__((noinline)) void sum_inputs(G group, const float* first, const float* other,
                                          std::ptrdiff_t x_step, int rows,
                                          float (&sums)[kStreams][G::kVectors * kVec]) {
  const float* x[kStreams];
  x[0] = first;
  if constexpr (kStreams == 2) x[1] = other;
  constexpr int kVecs = G::kVectors;
  Sums<kStreams, kVecs> total;
  if (rows == 1) {
    load_bias<G, kStreams, kVecs>(total, group);
    add_row<G, kStreams, kVecs>(total, group.weights, x, 0);
  } else {
    clear<kStreams, kVecs>(total);
    all_sums<G, 0, kStreams, kVecs>(total, group.weights, x, x_step, rows);
    add_bias<G, kStreams, kVecs>(total, group);
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) store(sums[s] + v * kVec, total[s][v]);
  }
}

// The same as early as it can be without taking registers from the sums of h.
template <typename G, int kStreams, int kInputs>
struct Inputs {
  static constexpr int kVecs = G::kVectors;
  float stored[kStreams][kVecs * kVec];
  Sums<kStreams, kVecs> sums;

  FXFAST_INLINE void prepare(const G& group, const Step<kStreams, kInputs>& step) {
    if constexpr (kInputs == 0) {
      sum_inputs<G, kStreams>(group, step.x[0], step.x[kStreams - 1], step.x_step, step.x_rows,
                              stored);
    }
    if constexpr (kInputs > 1) {
      clear<kStreams, kVecs>(sums);
      all_sums<G, kInputs, kStreams, kVecs>(sums, group.weights, step.x, step.x_step, kInputs);
      add_bias<G, kStreams, kVecs>(sums, group);
    }
  }

  // After the sums of h: products that follow a bias would each round at its size.
  FXFAST_INLINE void end(Sums<kStreams, kVecs>& gates, const G& group,
                         const Step<kStreams, kInputs>& step) {
    if constexpr (kInputs == 1) {
      load_bias<G, kStreams, kVecs>(sums, group);
      add_row<G, kStreams, kVecs>(sums, group.weights, step.x, 0);
    }
    if constexpr (kInputs == 0) {
#pragma GCC unroll 4
      for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) sums[s][v] = load(stored[s] + v * kVec);
      }
    }
    add<kStreams, kVecs>(gates, sums);
  }
};

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
template <Cell kCell, int kRows, int kStreams, int kInputs, typename G>
static FXFAST_INLINE void group_step(const G& group, const Step<kStreams, kInputs>& step) {
  constexpr int kVecs = G::kVectors;
  Inputs<G, kStreams, kInputs> inputs;
  inputs.prepare(group, step);
  Sums<kStreams, kVecs> gates;
  clear<kStreams, kVecs>(gates);
  all_sums<G, kRows, kStreams, kVecs>(gates, group.weights + step.x_rows * G::kRow, step.h, 1,
                                      step.h_rows);
  inputs.end(gates, group, step);
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
    cells<kCell, kVecs>(gates[s], step.old_h[s], step.c[s], step.new_h[s]);
  }
}
