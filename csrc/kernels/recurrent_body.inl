// Recurrent layers, compiled per instruction set after kernels_body.inl and under the same rules.

namespace FXFAST_ISA_NAMESPACE {

#include "kernels/recurrent_cell.inl"
#include "kernels/recurrent_sums.inl"
#include "kernels/recurrent_track.inl"

// Streams that a call works on side by side: as many as keep the processor busy, and fewer of a
// layer whose weights leave little room beside them in the first cache.
constexpr int kMostTracks = 8;
constexpr int kMostLargeTracks = 4;

template <int kStreams, int kInputs>
static FXFAST_INLINE void advance(Step<kStreams, kInputs>& step, int units) {
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
    step.old_h[s] += units, step.new_h[s] += units, step.c[s] += units;
  }
}

// One block of a layer, vector by vector; `step` goes on by its units.
template <Cell kCell, int kLanes, int kWidth, int kStreams, int kInputs>
static FXFAST_INLINE void block_step(const RecurrentTask& task, int lanes, int first,
                                     Step<kStreams, kInputs>& step) {
  constexpr int kUnits = kWidth < kVec ? kWidth : kVec, kVecs = kWidth < kVec ? 2 : 4;
  auto group = group_of<kWidth, kVecs>(task, lanes, first);
#pragma GCC unroll 4
  for (int unit = 0; unit < kWidth; unit += kUnits) {
    group_step<kCell, kLanes>(group, step);
    group.weights += kUnits, group.bias += kUnits;
    advance(step, kUnits);
  }
}

#if FXFAST_VECTOR_FLOATS == 16
// kBlocks whole blocks of one stream and, with kHalf, half a block after them, together: each
// broadcast of h serves all of them. At most kRecurrentRun rows; kRows where known, or 0.
template <Cell kCell, int kBlocks, int kHalf, int kRows, int kInputs>
static FXFAST_INLINE void joint_step(const RecurrentTask& task, int lanes, int first,
                                     Step<1, kInputs>& step) {
  typedef Group<kUnitBlock, 4> Whole;
  typedef Group<kUnitBlock / 2, 2> Half;
  constexpr int kAll = 4 * kBlocks + 2 * kHalf;
  const int half = first + kBlocks * kUnitBlock;
  Inputs<Whole, 1, kInputs> inputs[kBlocks];
  Inputs<Half, 1, kInputs> half_inputs;
  for (int b = 0; b < kBlocks; ++b) {
    inputs[b].prepare(group_of<kUnitBlock, 4>(task, lanes, first + b * kUnitBlock), step);
  }
  if (kHalf) half_inputs.prepare(group_of<kUnitBlock / 2, 2>(task, lanes, half), step);
  const float* weights[kBlocks + 1];
#pragma GCC unroll 4
  for (int b = 0; b <= kBlocks; ++b) {
    const int row = b < kBlocks ? Whole::kRow : Half::kRow;
    weights[b] = group_of<kUnitBlock, 4>(task, lanes, first + b * kUnitBlock).weights +
                 (std::ptrdiff_t)task.in_channels * row;
  }
  const float* h = step.h[0];
  Vec sums[kAll], odd[kAll];
#pragma GCC unroll 12
  for (int v = 0; v < kAll; ++v) sums[v] = odd[v] = Vec{};
  const auto add_row = [&](Vec(&chain)[kAll], int j) __attribute__((always_inline)) {
    const Vec value = broadcast(h[j]);
#pragma GCC unroll 12
    for (int v = 0; v < kAll; ++v) {
      const int row = v < 4 * kBlocks ? Whole::kRow : Half::kRow;
      chain[v] += load(weights[v / 4] + (std::ptrdiff_t)j * row + v % 4 * kVec) * value;
    }
  };
  if constexpr (kRows > 0) {
#pragma GCC unroll 32
    for (int j = 0; j < kRows; j += 2) {
      add_row(sums, j);
      add_row(odd, j + 1);
    }
  } else {
    for (int j = 0; j < lanes; j += 2) {
      add_row(sums, j);
      add_row(odd, j + 1);
    }
  }
#pragma GCC unroll 12
  for (int v = 0; v < kAll; ++v) sums[v] += odd[v];
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    Sums<1, 4> gates;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) gates[0][v] = sums[4 * b + v];
    inputs[b].end(gates, group_of<kUnitBlock, 4>(task, lanes, first + b * kUnitBlock), step);
    cells<kCell, 4>(gates[0], step.old_h[0], step.c[0], step.new_h[0]);
    advance(step, kUnitBlock);
  }
  if constexpr (kHalf) {
    Sums<1, 2> gates = {{sums[4 * kBlocks], sums[4 * kBlocks + 1]}};
    half_inputs.end(gates, group_of<kUnitBlock / 2, 2>(task, lanes, half), step);
    cells<kCell, 2>(gates[0], step.old_h[0], step.c[0], step.new_h[0]);
  }
}
#endif

// The blocks of a layer whose lanes are known.
template <Cell kCell, int kLanes, int kStreams, int kInputs>
static FXFAST_INLINE void known_step(const RecurrentTask& task, Step<kStreams, kInputs>& step) {
#if FXFAST_VECTOR_FLOATS == 16
  if constexpr (kLanes > kUnitBlock) {
    return joint_step<kCell, kLanes / kUnitBlock, kLanes % kUnitBlock != 0, kLanes>(task, kLanes, 0,
                                                                                    step);
  }
#endif
  constexpr int kWidth = kLanes < kUnitBlock ? kLanes : kUnitBlock;
  block_step<kCell, kLanes, kWidth>(task, kLanes, 0, step);
}

template <Cell kCell, int kWidth, int kStreams, int kInputs>
__attribute__((noinline)) void any_block_step(const RecurrentTask& task, int lanes, int first,
                                              Step<kStreams, kInputs>& step) {
  block_step<kCell, 0, kWidth>(task, lanes, first, step);
}

template <Cell kCell, int kStreams, int kInputs>
static FXFAST_INLINE void any_blocks_step(const RecurrentTask& task, Step<kStreams, kInputs>& step,
                                          int lanes) {
  int first = 0;
#if FXFAST_VECTOR_FLOATS == 16
  if constexpr (kStreams == 1) {
    for (; lanes <= kRecurrentRun && lanes - first >= 2 * kUnitBlock; first += 2 * kUnitBlock) {
      joint_step<kCell, 2, 0, 0>(task, lanes, first, step);
    }
  }
#endif
  for (; lanes - first >= kUnitBlock; first += kUnitBlock) {
    any_block_step<kCell, kUnitBlock>(task, lanes, first, step);
  }
  if (first < lanes) any_block_step<kCell, kUnitBlock / 2>(task, lanes, first, step);
}

// One sample of a layer of kStreams streams. kLanes where it is known, or 0.
template <Cell kCell, int kLanes, int kStreams, int kInputs>
__attribute__((noinline)) void layer_step(Track* tracks, int t) {
  Step<kStreams, kInputs> step = step_of<kStreams, kInputs>(tracks, t, 0);
  if constexpr (kLanes > 0) {
    known_step<kCell, kLanes, kStreams>(*tracks[0].task, step);
  } else {
    any_blocks_step<kCell, kStreams>(*tracks[0].task, step, tracks[0].lanes);
  }
  for (int s = 0; s < kStreams; ++s) end_sample(tracks[s], t);
}

template <Cell kCell, int kLanes>
static FXFAST_INLINE void known_layer_step(Track* track, int t) {
  const int inputs = track->task->in_channels;
  if (inputs == 1) return layer_step<kCell, kLanes, 1, 1>(track, t);
  if (inputs == kLanes) return layer_step<kCell, kLanes, 1, kLanes>(track, t);
  layer_step<kCell, kLanes, 1, 0>(track, t);
}

template <Cell kCell, int kStreams>
static FXFAST_INLINE void any_step(Track* tracks, int t) {
  if constexpr (kStreams == 1) {
    if (tracks[0].lanes == 8) return known_layer_step<kCell, 8>(tracks, t);
    if (tracks[0].lanes == 16) return known_layer_step<kCell, 16>(tracks, t);
#if FXFAST_VECTOR_FLOATS == 16
    if (tracks[0].task->in_channels == 1) {
      if (tracks[0].lanes == 24) return layer_step<kCell, 24, 1, 1>(tracks, t);
      if (tracks[0].lanes == 32) return layer_step<kCell, 32, 1, 1>(tracks, t);
      if (tracks[0].lanes == 40) return layer_step<kCell, 40, 1, 1>(tracks, t);
    }
#endif
  }
  layer_step<kCell, 0, kStreams, 0>(tracks, t);
}

static void start(Track& track, const RecurrentTask& task, const RecurrentStream& stream) {
  track.task = &task;
  track.stream = stream;
  track.before = nullptr;
  track.lanes = recurrent_lanes(task.units);
  track.stride = (int)gate_block_floats(task.units);
  track.delay = 0;
  if (track.is_wide()) return;
  copy_lanes(stream.state, track.history, track.lanes);
}

// The processor overlaps the waiting of the tracks: streams, or layers that work each one sample
// behind the one before.
static void run_tracks(Track* tracks, int count) {
  const int samples = tracks[0].task->samples, delay = tracks[count - 1].delay;
  // Their accumulators take half of 32 registers.
  const bool in_pairs = kVec == kUnitBlock && delay == 0 && tracks[0].lanes > 16;
  for (int now = 0; now < samples + delay; ++now) {
    for (int k = 0; k < count;) {
      const int t = now - tracks[k].delay;
      const int streams = in_pairs && k + 1 < count ? 2 : 1;
      if (t >= 0 && t < samples) {
        const bool is_lstm = tracks[k].task->cell == Cell::kLstm;
        if (kVec < kUnitBlock || streams == 1) {
          is_lstm ? any_step<Cell::kLstm, 1>(tracks + k, t)
                  : any_step<Cell::kGru, 1>(tracks + k, t);
        } else {
          constexpr int kPair = kVec < kUnitBlock ? 1 : 2;
          is_lstm ? any_step<Cell::kLstm, kPair>(tracks + k, t)
                  : any_step<Cell::kGru, kPair>(tracks + k, t);
        }
      }
      k += streams;
    }
  }
}

#if FXFAST_VECTOR_FLOATS == 16
#include "kernels/recurrent_many.inl"

// Streams in turn, kStreams at once, block by block.
template <Cell kCell, int kLanes, int kInputs, int kStreams>
static void run_pending(Track* tracks, int count) {
  const RecurrentTask& task = *tracks[0].task;
  const int lanes = kLanes > 0 ? kLanes : tracks[0].lanes;
  float nowhere[kUnitBlock] = {};
  PendingCells<kStreams> pending[2] = {};
  for (int s = 0; s < kStreams; ++s) pending[1].memory[s] = pending[1].new_h[s] = nowhere;
  int now = 0;
  bool is_half_before = lanes == 8;
  Track* ending = nullptr;
  int t_ending = 0;
  const auto end_before = [&]() __attribute__((always_inline)) {
    if (ending == nullptr) return;
    for (int s = 0; s < kStreams; ++s) end_sample(ending[s], t_ending);
    ending = nullptr;
  };
  const auto finish = [&]() __attribute__((always_inline)) {
    if (is_half_before) {
      run_cells<kCell, 8>(pending[1 - now]);
    } else {
      run_cells<kCell, 16>(pending[1 - now]);
    }
    for (int s = 0; s < kStreams; ++s) {
      pending[1 - now].memory[s] = pending[1 - now].new_h[s] = nowhere;
    }
    end_before();
  };
  for (int t = 0; t < task.samples; ++t) {
    for (int k = 0; k < count; k += kStreams) {
      for (int first = 0; first < lanes; first += kUnitBlock) {
        const bool is_half = lanes - first < kUnitBlock;
        const auto& before = pending[1 - now];
        auto& next = pending[now];
        constexpr bool kHasHalf = kLanes % kUnitBlock != 0 || kLanes == 0;
        if constexpr (kLanes == 8) {
          pending_step<kCell, 8, 8, 8, kStreams, kInputs>(tracks + k, t, 0, before, next);
        } else if (!kHasHalf || (!is_half && !is_half_before)) {
          pending_step<kCell, kLanes, 16, 16, kStreams, kInputs>(tracks + k, t, first, before,
                                                                 next);
        } else if constexpr (kHasHalf) {
          if (is_half_before && lanes == 8) {
            pending_step<kCell, 0, 8, 8, kStreams, kInputs>(tracks + k, t, first, before, next);
          } else if (is_half) {
            pending_step<kCell, kLanes, 16, 8, kStreams, kInputs>(tracks + k, t, first, before,
                                                                  next);
          } else {
            pending_step<kCell, kLanes, 8, 16, kStreams, kInputs>(tracks + k, t, first, before,
                                                                  next);
          }
        }
        end_before();
        is_half_before = is_half;
        now = 1 - now;
      }
      ending = tracks + k;
      t_ending = t;
      // The next sums need this h.
      if (count == kStreams) finish();
    }
  }
  if (count != kStreams) finish();
}

template <Cell kCell>
static void run_any_pending(Track* tracks, int count) {
  const int lanes = tracks[0].lanes;
  if (tracks[0].task->in_channels > 1) return run_pending<kCell, 0, 0, 2>(tracks, count);
  if (lanes == 8) return run_pending<kCell, 8, 1, 2>(tracks, count);
  if (lanes == 16) return run_pending<kCell, 16, 1, 2>(tracks, count);
  if (lanes == 40) return run_pending<kCell, 40, 1, 2>(tracks, count);
  run_pending<kCell, 0, 1, 2>(tracks, count);
}
#endif

// Streams of one layer, up to kMostTracks.
static void run_streams(Track* tracks, int count) {
#if FXFAST_VECTOR_FLOATS == 16
  const int least = tracks[0].lanes > 16 ? 2 : 4;
  if (count >= least && !tracks[0].is_wide()) {
    const int even = count / 2 * 2;
    if (tracks[0].task->cell == Cell::kLstm) {
      run_any_pending<Cell::kLstm>(tracks, even);
    } else {
      run_any_pending<Cell::kGru>(tracks, even);
    }
    if (even == count) return;
    tracks += even;
    count = 1;
  }
#endif
  run_tracks(tracks, count);
}

#include "kernels/recurrent_wide.inl"

void recurrent(const RecurrentTask* layers, int count, const RecurrentStream* streams,
               int stream_count) noexcept {
  Track tracks[kMostTracks];
  bool is_narrow = true;
  for (int l = 0; l < count; ++l) is_narrow &= recurrent_lanes(layers[l].units) <= kNarrowLanes;
  if (stream_count == 1 && is_narrow && (count > 1 || recurrent_lanes(layers[0].units) <= 16)) {
    for (int l = 0; l < count; ++l) {
      start(tracks[l], layers[l], streams[l]);
      tracks[l].delay = l;
      if (l > 0) tracks[l].before = tracks + l - 1;
    }
    return run_tracks(tracks, count);
  }
  for (int l = 0; l < count; ++l, streams += stream_count) {
    if (stream_count > 1 && recurrent_lanes(layers[l].units) > kNarrowLanes) {
      (layers[l].cell == Cell::kLstm ? run_wide<Cell::kLstm>
                                     : run_wide<Cell::kGru>)(layers[l], streams, stream_count);
      continue;
    }
    const int most = recurrent_lanes(layers[l].units) > kUnitBlock ? kMostLargeTracks : kMostTracks;
    for (int first = 0; first < stream_count; first += most) {
      const int left = stream_count - first;
      const int together = left < most ? left : most;
      for (int s = 0; s < together; ++s) start(tracks[s], layers[l], streams[first + s]);
      run_streams(tracks, together);
    }
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
