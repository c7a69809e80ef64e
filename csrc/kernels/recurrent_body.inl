// Recurrent layers, compiled per instruction set after kernels_body.inl and under the same rules.

namespace FXFAST_ISA_NAMESPACE {

#include "kernels/recurrent_cell.inl"
#include "kernels/recurrent_sums.inl"

// How many samples of h a narrow layer keeps before they go to the output, and its most lanes.
constexpr int kHistory = kVec < 8 ? 8 : kVec;
constexpr int kNarrowLanes = 64;
// Streams that a call works on side by side: as many as keep the processor busy.
constexpr int kMostTracks = 8;

// One layer of one stream over the samples of a call. The last kHistory samples of h of a narrow
// layer stand here, sample by sample, before they go to the rows of the output together; a wide
// one has h and the next h in its state.
struct Track {
  const RecurrentTask* task;
  RecurrentStream stream;
  const Track* before;  // the layer whose h this one reads, or nullptr
  int lanes;
  int delay;             // samples that it works behind the first layer
  alignas(64) float history[(kHistory + 1) * kNarrowLanes];

  bool is_wide() const { return lanes > kNarrowLanes; }
  float* old_h(int t) {
    if (is_wide()) return stream.state + (t % 2) * 2 * gate_block_floats(task->units);
    return history + t % kHistory * kNarrowLanes;
  }
  float* new_h(int t) {
    return is_wide() ? old_h(t + 1) : history + (t % kHistory + 1) * kNarrowLanes;
  }
  const float* h_after(int t) const { return history + (t % kHistory + 1) * kNarrowLanes; }
};

#if FXFAST_VECTOR_FLOATS == 16
#define FXFAST_MIX(a, b, n)                                                                  \
  __builtin_shufflevector(a, b, n, 16 + n, n + 1, 17 + n, n + 2, 18 + n, n + 3, 19 + n, n + 4, \
                          20 + n, n + 5, 21 + n, n + 6, 22 + n, n + 7, 23 + n)
#elif FXFAST_VECTOR_FLOATS == 8
#define FXFAST_MIX(a, b, n) \
  __builtin_shufflevector(a, b, n, 8 + n, n + 1, 9 + n, n + 2, 10 + n, n + 3, 11 + n)
#else
#define FXFAST_MIX(a, b, n) __builtin_shufflevector(a, b, n, 4 + n, n + 1, 5 + n)
#endif

// kVec samples of kVec units, from rows of samples to rows of units: every pass mixes the first
// half of the vectors with the second.
static FXFAST_INLINE void transpose(Vec (&v)[kVec]) {
#pragma GCC unroll 4
  for (int width = 1; width < kVec; width *= 2) {
    Vec mixed[kVec];
#pragma GCC unroll 8
    for (int i = 0; i < kVec / 2; ++i) {
      mixed[2 * i] = FXFAST_MIX(v[i], v[i + kVec / 2], 0);
      mixed[2 * i + 1] = FXFAST_MIX(v[i], v[i + kVec / 2], kVec / 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kVec; ++i) v[i] = mixed[i];
  }
}
#undef FXFAST_MIX

// The samples of `history` (rows of kNarrowLanes units) into rows of the output; what lies after
// the last sample has no meaning there.
__attribute__((noinline)) void store_history(const float* history, const RecurrentTask& task,
                                             float* output) {
  for (int u = 0; u < task.units; u += kVec) {
    const int units = task.units - u < kVec ? task.units - u : kVec;
    for (int t = 0; t < kHistory; t += kVec) {
      Vec v[kVec];
#pragma GCC unroll 16
      for (int i = 0; i < kVec; ++i) v[i] = load(history + (t + i) * kNarrowLanes + u);
      transpose(v);
      float* y = output + u * task.output_stride + t;
#pragma GCC unroll 16
      for (int i = 0; i < kVec; ++i) {
        if (i < units) store(y + i * task.output_stride, v[i]);
      }
    }
  }
}

// After sample t of a layer: h goes to the output.
static FXFAST_INLINE void end_sample(Track& track, int t) {
  const RecurrentTask& task = *track.task;
  const bool is_last = t + 1 == task.samples;
  if (track.is_wide()) {
    const float* h = track.new_h(t);
    for (int u = 0; u < task.units; ++u) track.stream.output[u * task.output_stride + t] = h[u];
    if (is_last && h != track.stream.state) {
      for (int u = 0; u < track.lanes; ++u) track.stream.state[u] = h[u];
    }
  } else if (is_last || t % kHistory == kHistory - 1) {
    store_history(track.history + kNarrowLanes, task, track.stream.output + t - t % kHistory);
    const float* h = track.new_h(t);
    for (int u = 0; u < track.lanes; ++u) track.history[u] = h[u];
    if (is_last) {
      for (int u = 0; u < track.lanes; ++u) track.stream.state[u] = h[u];
    }
  }
}

// One sample of a layer of kStreams streams. kLanes where it is known, or 0.
template <Cell kCell, int kLanes, int kStreams>
__attribute__((noinline)) void layer_step(Track* tracks, int t) {
  const RecurrentTask& task = *tracks[0].task;
  const int lanes = kLanes > 0 ? kLanes : tracks[0].lanes;
  const Track* before = tracks[0].before;
  Step<kStreams> step;
  step.x_rows = task.in_channels;
  step.h_rows = lanes;
  step.x_step = before != nullptr ? 1 : task.input_stride;
  for (int s = 0; s < kStreams; ++s) {
    Track& track = tracks[s];
    step.x[s] = before != nullptr ? before->h_after(t) : track.stream.input + t;
    step.h[s] = step.old_h[s] = track.old_h(t);
    step.new_h[s] = track.new_h(t);
    step.c[s] = track.stream.state + gate_block_floats(task.units);
  }
  const int rows = task.in_channels + lanes;
  for (int first = 0; first < lanes; first += kUnitBlock) {
    const int width = lanes - first < kUnitBlock ? lanes - first : kUnitBlock;
    Group group{task.weights + (std::ptrdiff_t)4 * first * rows, task.bias + 4 * first, 4 * width,
                width};
    const auto advance = [&](int units) __attribute__((always_inline)) {
      for (int s = 0; s < kStreams; ++s) {
        step.old_h[s] += units, step.new_h[s] += units, step.c[s] += units;
      }
    };
    if (width < kVec) {
      group.vec_floats = kVec;
      group_step<kCell, kLanes, kStreams, kVec == 16 ? 2 : 4>(group, step);
      continue;
    }
    for (int sub = 0; sub < width; sub += kVec) {
      group_step<kCell, kLanes, kStreams, 4>(group, step);
      group.weights += kVec, group.bias += kVec;
      advance(kVec);
    }
  }
  for (int s = 0; s < kStreams; ++s) end_sample(tracks[s], t);
}

template <Cell kCell, int kStreams>
static FXFAST_INLINE void any_step(Track* tracks, int t) {
  if constexpr (kStreams == 1) {
    if (tracks[0].lanes == 8) return layer_step<kCell, 8, 1>(tracks, t);
    if (tracks[0].lanes == 16) return layer_step<kCell, 16, 1>(tracks, t);
  }
  layer_step<kCell, 0, kStreams>(tracks, t);
}

static void start(Track& track, const RecurrentTask& task, const RecurrentStream& stream) {
  track.task = &task;
  track.stream = stream;
  track.before = nullptr;
  track.lanes = recurrent_lanes(task.units);
  track.delay = 0;
  if (track.is_wide()) return;
  for (int u = 0; u < track.lanes; ++u) track.history[u] = stream.state[u];
}

// The processor overlaps the waiting of the tracks: streams, or layers that work each one sample
// behind the one before.
static void run_tracks(Track* tracks, int count) {
  const int samples = tracks[0].task->samples, delay = tracks[count - 1].delay;
  const bool in_pairs = delay == 0 && tracks[0].lanes > 16;
  const Cell cell = tracks[0].task->cell;
  for (int now = 0; now < samples + delay; ++now) {
    for (int k = 0; k < count;) {
      const int t = now - tracks[k].delay;
      const int streams = in_pairs && k + 1 < count ? 2 : 1;
      if (t >= 0 && t < samples) {
        if (streams == 2) {
          cell == Cell::kLstm ? any_step<Cell::kLstm, 2>(tracks + k, t)
                              : any_step<Cell::kGru, 2>(tracks + k, t);
        } else {
          tracks[k].task->cell == Cell::kLstm ? any_step<Cell::kLstm, 1>(tracks + k, t)
                                              : any_step<Cell::kGru, 1>(tracks + k, t);
        }
      }
      k += streams;
    }
  }
}

void recurrent(const RecurrentTask* layers, int count, const RecurrentStream* streams,
               int stream_count) noexcept {
  Track tracks[kMostTracks];
  bool is_narrow = true;
  for (int l = 0; l < count; ++l) is_narrow &= recurrent_lanes(layers[l].units) <= kNarrowLanes;
  if (stream_count == 1 && is_narrow) {
    for (int l = 0; l < count; ++l) {
      start(tracks[l], layers[l], streams[l]);
      tracks[l].delay = l;
      if (l > 0) tracks[l].before = tracks + l - 1;
    }
    return run_tracks(tracks, count);
  }
  for (int l = 0; l < count; ++l, streams += stream_count) {
    for (int first = 0; first < stream_count; first += kMostTracks) {
      const int left = stream_count - first;
      const int together = left < kMostTracks ? left : kMostTracks;
      for (int s = 0; s < together; ++s) start(tracks[s], layers[l], streams[first + s]);
      run_tracks(tracks, together);
    }
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
