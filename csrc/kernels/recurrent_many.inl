// Many streams of a narrow layer, in pairs that share each load of a weight. While the sums of one
// block of a pair go on, the cells of the block before run between its rows: their chains of
// dependent steps alone would keep the multipliers waiting. Included by recurrent_body.inl.

// Sums that wait for their cells.
template <int kStreams>
struct PendingCells {
  alignas(64) float gates[kStreams][4 * kUnitBlock];
  float* memory[kStreams];
  float* new_h[kStreams];
};

template <int kUnits>
struct UnitsVec {
  typedef Vec Type;
};
template <>
struct UnitsVec<kUnitBlock / 2> {
  typedef HalfVec Type;
};

template <Cell kCell, int kUnits, int kStreams>
struct CellWork {
  typedef typename UnitsVec<kUnits>::Type V;
  CellSteps<kCell, V> steps[kStreams];

  template <int kStep>
  FXFAST_INLINE void run(const PendingCells<kStreams>& cells) {
#pragma GCC unroll 2
    for (int s = 0; s < kStreams; ++s) {
      const V gates[4] = {load_as<V>(cells.gates[s]), load_as<V>(cells.gates[s] + kUnits),
                          load_as<V>(cells.gates[s] + 2 * kUnits),
                          load_as<V>(cells.gates[s] + 3 * kUnits)};
      V memory = load_as<V>(cells.memory[s]), h;
      steps[s].template run<kStep>(gates, memory, h);
      if (kStep == 4 && kCell == Cell::kLstm) store_as(cells.memory[s], memory);
      if (kStep == kCellSteps - 1) store_as(cells.new_h[s], h);
    }
  }
};

// The sums of h with a step of the waiting cells after each eighth of the rows.
template <typename G, int kLanes, int kStreams, int kVecs, typename Work, int kStep = 0>
static FXFAST_INLINE void sums_and_cells(Sums<kStreams, kVecs>& even, Sums<kStreams, kVecs>& odd,
                                         const float* w, const float* const (&h)[kStreams],
                                         int lanes, Work& work,
                                         const PendingCells<kStreams>& cells) {
  const int pairs = (kLanes > 0 ? kLanes : lanes) / 2;
  const int end = 2 * ((kStep + 1) * pairs / kCellSteps);
#pragma GCC unroll 4
  for (int j = 2 * (kStep * pairs / kCellSteps); j < end; j += 2) {
    add_row<G, kStreams, kVecs>(even, w + j * G::kRow, h, j);
    add_row<G, kStreams, kVecs>(odd, w + (j + 1) * G::kRow, h, j + 1);
  }
  work.template run<kStep>(cells);
  if constexpr (kStep + 1 < kCellSteps) {
    sums_and_cells<G, kLanes, kStreams, kVecs, Work, kStep + 1>(even, odd, w, h, lanes, work,
                                                                cells);
  }
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
  Sums<kStreams, kVecs> even, odd;
  inputs.start(even, group, step);
  clear<kStreams, kVecs>(odd);
  CellWork<kCell, kBefore, kStreams> work;
  sums_and_cells<G, kLanes, kStreams, kVecs>(even, odd, group.weights + step.x_rows * G::kRow,
                                             step.h, lanes, work, before);
  add<kStreams, kVecs>(even, odd);
  inputs.end(even, step);
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) store(next.gates[s] + v * kVec, even[s][v]);
  }
}

template <Cell kCell, int kUnits, int kStreams>
static FXFAST_INLINE void run_cells(const PendingCells<kStreams>& cells) {
  CellWork<kCell, kUnits, kStreams> work;
  work.template run<0>(cells);
  work.template run<1>(cells);
  work.template run<2>(cells);
  work.template run<3>(cells);
  work.template run<4>(cells);
  work.template run<5>(cells);
  work.template run<6>(cells);
  work.template run<7>(cells);
}
