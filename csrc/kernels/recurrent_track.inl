// One layer of one stream over the samples of a call: where its h stands until it goes to the rows
// of the output. Included by recurrent_body.inl.

// How many samples of h a narrow layer keeps before they go to the output, and its most lanes.
constexpr int kHistory = kVec < 8 ? 8 : kVec;
constexpr int kNarrowLanes = 64;

// One layer of one stream over the samples of a call. The last kHistory samples of h of a narrow
// layer stand here, sample by sample and `stride` apart, before they go to the rows of the output
// together; a wide one has h and the next h in its state.
struct Track {
  const RecurrentTask* task;
  RecurrentStream stream;
  const Track* before;  // the layer whose h this one reads, or nullptr
  int lanes;
  int stride;
  int delay;  // samples that it works behind the first layer
  alignas(64) float history[(kHistory + 1) * kNarrowLanes];

  bool is_wide() const { return lanes > kNarrowLanes; }
  float* old_h(int t) {
    if (is_wide()) return stream.state + (t & 1) * 2 * gate_block_floats(task->units);
    return history + (t & (kHistory - 1)) * stride;
  }
  float* new_h(int t) {
    return is_wide() ? old_h(t + 1) : history + ((t & (kHistory - 1)) + 1) * stride;
  }
  const float* h_after(int t) const { return history + ((t & (kHistory - 1)) + 1) * stride; }
};

#if FXFAST_VECTOR_FLOATS == 16
#define FXFAST_MIX(a, b, n)                                                                    \
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

// The samples of `history` (rows of units, `stride` apart) into rows of the output; what lies after
// the last sample has no meaning there.
static void store_history(const float* history, int stride, const RecurrentTask& task,
                          float* output) {
  for (int u = 0; u < task.units; u += kVec) {
    const int units = task.units - u < kVec ? task.units - u : kVec;
    for (int t = 0; t < kHistory; t += kVec) {
      Vec v[kVec];
#pragma GCC unroll 16
      for (int i = 0; i < kVec; ++i) v[i] = load(history + (t + i) * stride + u);
      transpose(v);
      float* y = output + u * task.output_stride + t;
#pragma GCC unroll 16
      for (int i = 0; i < kVec; ++i) {
        if (i < units) store(y + i * task.output_stride, v[i]);
      }
    }
  }
}

static void copy_lanes(const float* from, float* to, int lanes) {
  for (int u = 0; u < lanes; u += kUnitBlock / 2) {
    __builtin_memcpy(to + u, from + u, kUnitBlock / 2 * sizeof(float));
  }
}

// The history up to sample t goes to the output, and the last h before the next sample.
__attribute__((noinline)) void end_history(Track& track, int t) {
  const RecurrentTask& task = *track.task;
  store_history(track.history + track.stride, track.stride, task,
                track.stream.output + t - t % kHistory);
  copy_lanes(track.new_h(t), track.history, track.lanes);
  if (t + 1 == task.samples) copy_lanes(track.new_h(t), track.stream.state, track.lanes);
}

// After sample t of a layer: h goes to the output.
static FXFAST_INLINE void end_sample(Track& track, int t) {
  const RecurrentTask& task = *track.task;
  const bool is_last = t + 1 == task.samples;
  if (!track.is_wide()) {
    if (is_last || (t & (kHistory - 1)) == kHistory - 1) end_history(track, t);
    return;
  }
  const float* h = track.new_h(t);
  for (int u = 0; u < task.units; ++u) track.stream.output[u * task.output_stride + t] = h[u];
  if (is_last && h != track.stream.state) copy_lanes(h, track.stream.state, track.lanes);
}

// What the streams of one layer read and write at sample t, from unit `first` on.
template <int kStreams, int kInputs>
static FXFAST_INLINE Step<kStreams, kInputs> step_of(Track* tracks, int t, int first) {
  const RecurrentTask& task = *tracks[0].task;
  const Track* before = tracks[0].before;
  Step<kStreams, kInputs> step;
  step.x_rows = kInputs > 0 ? kInputs : task.in_channels;
  step.h_rows = tracks[0].lanes;
  step.x_step = before != nullptr ? 1 : task.input_stride;
#pragma GCC unroll 2
  for (int s = 0; s < kStreams; ++s) {
    Track& track = tracks[s];
    step.x[s] = before != nullptr ? before->h_after(t) : track.stream.input + t;
    step.h[s] = track.old_h(t);
    step.old_h[s] = step.h[s] + first;
    step.new_h[s] = track.new_h(t) + first;
    step.c[s] = track.stream.state + gate_block_floats(task.units) + first;
  }
  return step;
}

template <int kWidth, int kVecs>
static FXFAST_INLINE Group<kWidth, kVecs> group_of(const RecurrentTask& task, int lanes,
                                                   int first) {
  const std::ptrdiff_t rows = task.in_channels + lanes;
  return {task.weights + 4 * first * rows, task.bias + 4 * first};
}
