// The level-dependent gain, compiled per instruction set right after kernels_body.inl and under
// the same rules. What depends on the sample alone runs in vectors, the recursions one sample after
// the other in double; both are the same for every split over time.

namespace FXFAST_ISA_NAMESPACE {

// A block of the passes, small enough for the stack and the first-level cache.
constexpr int kGainBlock = 384;

// log2(x) for normal x > 0: x = 2^n m with m from sqrt(1/2) to sqrt(2), and log2(m) is an odd
// series in (m - 1) / (m + 1) of which five terms are exact to 1e-9.
static FXFAST_INLINE Vec log2_of(Vec x) {
  const IntVec bits = (IntVec)x;
  const IntVec n = (bits - 0x3f3504f3) >> 23;
  const Vec m = (Vec)(bits - (n << 23));
  const Vec s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const Vec series =
      (((s2 * 0.320598898f + 0.412198583f) * s2 + 0.577078016f) * s2 + 0.961796694f) * s2 +
      2.88539008f;
  return __builtin_convertvector(n, Vec) + s * series;
}

static void rectify(const float* x, bool squares, int samples, float* out) noexcept {
  for (int t = 0; t < samples; t += kVec) {
    const Vec v = load(x + t);
    store(out + t, squares ? v * v : absolute(v));
  }
}

static void average(GainState& state, double share, int samples, float* d) noexcept {
  double mean = state.average;
  for (int t = 0; t < samples; ++t) {
    mean += share * ((double)d[t] - mean);
    d[t] = (float)mean;
  }
  state.average = mean;
}

static void detect(GainState& state, double rise, double fall, int samples, float* d) noexcept {
  double level = state.level;
  for (int t = 0; t < samples; ++t) {
    const double step = (double)d[t] - level;
    level += (step > 0.0 ? rise : fall) * step;
    d[t] = (float)level;
  }
  state.level = level;
}

// From detected levels to places on the curve; silence is at its first point.
static void places_on_curve(const float* numbers, int points, int samples, float* d) noexcept {
  const float halves = numbers[kGainSquares] > 0.0f ? 0.5f : 1.0f;
  const Vec per = broadcast(numbers[kGainPerLevel]);
  const Vec first = broadcast(numbers[kGainFirstLevel]);
  const Vec last = broadcast((float)(points - 1));
  for (int t = 0; t < samples; t += kVec) {
    const Vec level = log2_of(larger(load(d + t), broadcast(1.17549435e-38f))) * halves;
    store(d + t, smaller(larger((level - first) * per, Vec{}), last));
  }
}

static void follow_curve(const LevelGainTask& task, int samples, float* places) noexcept {
  const double rise = task.numbers[kGainRise], fall = task.numbers[kGainFall];
  const float* curve = task.numbers + kGainNumbers;
  double gain = task.state->gain;
  for (int t = 0; t < samples; ++t) {
    int point = (int)places[t];
    if (point > task.points - 2) point = task.points - 2;
    const float* at = curve + point;
    const double target =
        (double)at[0] + (double)(places[t] - (float)point) * ((double)at[1] - (double)at[0]);
    const double step = target - gain;
    gain += (step > 0.0 ? rise : fall) * step;
    places[t] = (float)gain;
  }
  task.state->gain = gain;
}

static FXFAST_INLINE Vec power_of_two(Vec w) {
  const Exp2Parts e = exp2_parts(clamp(w, -120.0f, 120.0f), exp2_numbers());
  return e.scale * (e.u + e.v) / (e.u - e.v);
}

// One sample of the gate: what it is doing, and its g.
static FXFAST_INLINE void step_gate(const float* numbers, double level, GainState& state) noexcept {
  if (state.phase == kGateClosing && level >= (double)numbers[kGainOpen]) {
    state.phase = kGateOpening;
  } else if (state.phase == kGateOpen) {
    if (level >= (double)numbers[kGainClose]) {
      state.hold = (int)numbers[kGainHold];
    } else if (state.hold <= 0) {
      state.phase = kGateClosing;
    } else {
      --state.hold;
    }
  }
  const bool exponential = numbers[kGainExponential] > 0.0f;
  if (state.phase == kGateClosing) {
    state.gain -= (double)numbers[kGainFall] * (exponential ? state.gain : 1.0);
    if (state.gain < kGateSilent) state.gain = 0.0;
    return;
  }
  state.gain += (double)numbers[kGainRise] * (exponential ? 1.0 - state.gain : 1.0);
  if (state.gain > 1.0) state.gain = 1.0;
  if (state.phase == kGateOpening && state.gain >= (exponential ? kGateArrived : 1.0)) {
    state.phase = kGateOpen;
    state.hold = (int)numbers[kGainHold];
  }
}

static void run_gate(const LevelGainTask& task, int samples, float* levels) noexcept {
  const double range = task.numbers[kGainRange];
  GainState state = *task.state;
  for (int t = 0; t < samples; ++t) {
    step_gate(task.numbers, (double)levels[t], state);
    levels[t] = (float)(range + (1.0 - range) * state.gain);
  }
  *task.state = state;
}

void level_gain(const LevelGainTask& task) noexcept {
  const float* numbers = task.numbers;
  const bool is_gate = numbers[kGainKindNumber] > 0.0f;
  float gains[kGainBlock + kMaxVectorFloats];
  for (int start = 0; start < task.samples; start += kGainBlock) {
    const int left = task.samples - start;
    const int samples = left < kGainBlock ? left : kGainBlock;
    const float* x = task.input + start;
    float* y = task.output + start;
    rectify(x, numbers[kGainSquares] > 0.0f, samples, gains);
    if (numbers[kGainAverage] < 1.0f) average(*task.state, numbers[kGainAverage], samples, gains);
    detect(*task.state, numbers[kGainDetectorRise], numbers[kGainDetectorFall], samples, gains);
    if (is_gate) {
      run_gate(task, samples, gains);
      for (int t = 0; t < samples; t += kVec) store(y + t, load(x + t) * load(gains + t));
      continue;
    }
    places_on_curve(numbers, task.points, samples, gains);
    follow_curve(task, samples, gains);
    for (int t = 0; t < samples; t += kVec)
      store(y + t, load(x + t) * power_of_two(load(gains + t)));
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
