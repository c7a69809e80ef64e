// Many streams of a narrow layer, in pairs that share each load of a weight. While the sums of one
// block of a pair go on, the cells of the block before run between its rows: their chains of
// dependent steps alone would keep the multipliers waiting. Included by recurrent_body.inl.

// Sums that wait for their cells. Two half blocks stand in one vector of each gate.
template <int kStreams>
struct PendingCells {
  alignas(64) float gates[kStreams][4 * kUnitBlock];
  float* memory[kStreams];
  float* new_h[kStreams];
};

static FXFAST_INLINE Vec both_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
}
static FXFAST_INLINE Vec both_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30,
                                 31);
}
static FXFAST_INLINE Vec two_halves(const float* low, const float* high) {
  const HalfVec a = load_as<HalfVec>(low), b = load_as<HalfVec>(high);
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

template <Cell kCell, int kUnits, int kStreams>
struct CellWork {
  static constexpr bool kAreHalves = kUnits < kVec;
  static constexpr int kCells = kAreHalves ? kStreams / 2 : kStreams;
  typedef CellSteps<kCell, Vec> Steps;
  Steps steps[kCells];

  static FXFAST_INLINE Vec loaded(float* const* from, int cell) {
    return kAreHalves ? two_halves(from[2 * cell], from[2 * cell + 1]) : load(from[cell]);
  }
  static FXFAST_INLINE void put(float* const* to, int cell, Vec v) {
    if (!kAreHalves) return store(to[cell], v);
    store_as(to[2 * cell], low_half(v));
    store_as(to[2 * cell + 1], high_half(v));
  }

  template <int kStep>
  FXFAST_INLINE void run(const PendingCells<kStreams>& cells) {
#pragma GCC unroll 2
    for (int s = 0; s < kCells; ++s) {
      const Vec gates[4] = {load(cells.gates[s]), load(cells.gates[s] + kVec),
                            load(cells.gates[s] + 2 * kVec), load(cells.gates[s] + 3 * kVec)};
      Vec memory = loaded(cells.memory, s), h;
      steps[s].template run<kStep>(gates, memory, h);
      if (kStep == Steps::kMemoryStep) put(cells.memory, s, memory);
      if (kStep == Steps::kSteps - 1) put(cells.new_h, s, h);
    }
  }
};

// Steps kStep to kEnd of the waiting cells, each after its share of the rows: of the even or the
// odd ones (kParity 0 or 1, all into `sums`), or of both (2).
template <typename G, int kParity, int kBegin, int kEnd, int kStep, int kStreams, int kVecs,
          typename Work>
static FXFAST_INLINE void rows_and_steps(Sums<kStreams, kVecs>& sums, Sums<kStreams, kVecs>& odd,
                                         const float* w, const float* const (&h)[kStreams],
                                         int pairs, Work& work,
                                         const PendingCells<kStreams>& cells) {
  if constexpr (kStep < kEnd) {
    const int end = (kStep + 1 - kBegin) * pairs / (kEnd - kBegin);
#pragma GCC unroll 4
    for (int k = (kStep - kBegin) * pairs / (kEnd - kBegin); k < end; ++k) {
      const int j = 2 * k + kParity % 2;
      add_row<G, kStreams, kVecs>(sums, w + j * G::kRow, h, j);
      if (kParity == 2) add_row<G, kStreams, kVecs>(odd, w + (j + 1) * G::kRow, h, j + 1);
    }
    work.template run<kStep>(cells);
    rows_and_steps<G, kParity, kBegin, kEnd, kStep + 1>(sums, odd, w, h, pairs, work, cells);
  }
}

template <int kStreams, int kVecs>
static FXFAST_INLINE void put_gates(PendingCells<kStreams>& cells,
                                    const Sums<kStreams, kVecs>& sums) {
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) store(cells.gates[s] + v * kVec, sums[s][v]);
  }
}

// Where a row gives eight chains, the even rows come first and then the odd ones: the cells need
// the registers that both would take.
template <typename G, int kLanes, int kStreams, typename Work>
static FXFAST_INLINE void sums_and_cells(Sums<kStreams, 4>& sums, const float* w,
                                         const float* const (&h)[kStreams], int lanes, Work& work,
                                         const PendingCells<kStreams>& before,
                                         PendingCells<kStreams>& next) {
  constexpr int kSteps = Work::Steps::kSteps, kMiddle = kSteps / 2;
  const int pairs = (kLanes > 0 ? kLanes : lanes) / 2;
  rows_and_steps<G, 0, 0, kMiddle, 0>(sums, sums, w, h, pairs, work, before);
  put_gates(next, sums);
  __asm__ volatile("" : : : "memory");
  clear<kStreams, 4>(sums);
  rows_and_steps<G, 1, kMiddle, kSteps, kMiddle>(sums, sums, w, h, pairs, work, before);
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sums[s][v] = load(next.gates[s] + v * kVec) + sums[s][v];
  }
}

template <typename G, int kLanes, int kStreams, typename Work>
static FXFAST_INLINE void sums_and_cells(Sums<kStreams, 2>& sums, const float* w,
                                         const float* const (&h)[kStreams], int lanes, Work& work,
                                         const PendingCells<kStreams>& before,
                                         PendingCells<kStreams>&) {
  Sums<kStreams, 2> odd;
  clear<kStreams, 2>(odd);
  rows_and_steps<G, 2, 0, Work::Steps::kSteps, 0>(sums, odd, w, h,
                                                  (kLanes > 0 ? kLanes : lanes) / 2, work, before);
  add<kStreams, 2>(sums, odd);
}

// The sums of a block of kWidth units from `first` on at sample t into `next`, and the cells of
// `before`, a block of kBefore units.
template <Cell kCell, int kLanes, int kBefore, int kWidth, int kStreams, int kInputs>
__attribute__((noinline)) void pending_step(Track* tracks, int t, int first,
                                            const PendingCells<kStreams>& before,
                                            PendingCells<kStreams>& next) {
  constexpr int kVecs = kWidth < kVec ? 2 : 4;
  typedef Group<kWidth, kVecs> G;
  const int lanes = kLanes > 0 ? kLanes : tracks[0].lanes;
  const G group = group_of<kWidth, kVecs>(*tracks[0].task, lanes, first);
  const auto step = step_of<kStreams, kInputs>(tracks, t, first);
  Inputs<G, kStreams, kInputs> inputs;
  inputs.prepare(group, step);
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
    next.memory[s] = kCell == Cell::kLstm ? step.c[s] : const_cast<float*>(step.old_h[s]);
    next.new_h[s] = step.new_h[s];
  }
  Sums<kStreams, kVecs> sums;
  clear<kStreams, kVecs>(sums);
  CellWork<kCell, kBefore, kStreams> work;
  sums_and_cells<G, kLanes, kStreams>(sums, group.weights + step.x_rows * G::kRow, step.h, lanes,
                                      work, before, next);
  inputs.end(sums, group, step);
  if constexpr (kVecs == 4) {
    put_gates<kStreams, kVecs>(next, sums);
  } else {
    const Sums<1, 4> both = {{both_low(sums[0][0], sums[1][0]), both_high(sums[0][0], sums[1][0]),
                              both_low(sums[0][1], sums[1][1]), both_high(sums[0][1], sums[1][1])}};
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store(next.gates[0] + v * kVec, both[0][v]);
  }
}

template <int kStep, typename Work, int kStreams>
static FXFAST_INLINE void run_steps(Work& work, const PendingCells<kStreams>& cells) {
  if constexpr (kStep < Work::Steps::kSteps) {
    work.template run<kStep>(cells);
    run_steps<kStep + 1>(work, cells);
  }
}

template <Cell kCell, int kUnits, int kStreams>
static FXFAST_INLINE void run_cells(const PendingCells<kStreams>& cells) {
  CellWork<kCell, kUnits, kStreams> work;
  run_steps<0>(work, cells);
}
