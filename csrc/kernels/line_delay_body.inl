// Delay lines, compiled per instruction set right after kernels_body.inl and under the same rules.
// Every sample is made by the same operations in whatever vector and chunk it stands.

namespace FXFAST_ISA_NAMESPACE {

struct DelayLine {
  const DelayTask& task;
  float* ring;

  float number(int field) const { return task.numbers[field]; }

  std::ptrdiff_t wrapped(std::ptrdiff_t place) const {
    return place < 0 ? place + task.ring : (place >= task.ring ? place - task.ring : place);
  }
};

// Lagrange's weights of the points at -1, 0, 1 and 2 samples for a place between 0 and 1.
template <int kPointCount>
static FXFAST_INLINE Vec interpolated(const Vec (&u)[kPointCount], Vec f) {
  if constexpr (kPointCount == 2) {
    return u[1] + f * (u[0] - u[1]);
  } else {
    const Vec less = f - 1.0f, least = f - 2.0f, more = f + 1.0f;
    const Vec inner = more * least * 0.5f, outer = f * less * (1.0f / 6.0f);
    return (u[2] * (inner * less) - u[1] * (inner * f)) +
           (u[0] * (outer * more) - u[3] * (outer * least));
  }
}

// What a voice adds to a vector of samples from `place` of the ring on, `sample` of the stream.
// `scratch` is room for one vector, through which lanes become addresses.
template <int kPointCount>
static FXFAST_INLINE Vec voice_of(const DelayLine& line, const DelayVoice& voice,
                                  std::ptrdiff_t place, std::uint64_t sample, float* scratch) {
  constexpr int behind = kPointCount == 2 ? 1 : 2;
  Vec u[kPointCount];
  if (voice.bits == 0) {
    const float offset = voice.table[0];
    const int whole = static_cast<int>(offset);
    const std::ptrdiff_t oldest = line.wrapped(
        line.wrapped(place) - static_cast<std::ptrdiff_t>(voice.base + whole) - behind);
    for (int k = 0; k < kPointCount; ++k) u[k] = load(line.ring + oldest + k);
    return voice.gain * interpolated(u, broadcast(offset - static_cast<float>(whole)));
  }
  float fraction[kVec], from[kVec], to[kVec], points_of[kPointCount][kVec];
  const std::uint64_t last = (std::uint64_t{1} << voice.bits) - 1;
  for (int lane = 0; lane < kVec; ++lane) {
    const std::uint64_t phase = delay_phase(voice, sample + static_cast<std::uint64_t>(lane));
    const std::uint64_t entry = phase >> (kPhaseBits - voice.bits);
    fraction[lane] =
        static_cast<float>(static_cast<int>(phase >> (kPhaseBits - 24 - voice.bits) & 0xffffff));
    from[lane] = voice.table[entry];
    to[lane] = voice.table[(entry + 1) & last];
  }
  const Vec start = load(from);
  const Vec offset = start + load(fraction) * (1.0f / 16777216.0f) * (load(to) - start);
  const IntVec whole = __builtin_convertvector(offset, IntVec);
  __builtin_memcpy(scratch, &whole, sizeof(whole));
  for (int lane = 0; lane < kVec; ++lane) {
    const std::ptrdiff_t now = line.wrapped(line.wrapped(place) + lane);
    int samples_of_lane;
    __builtin_memcpy(&samples_of_lane, scratch + lane, sizeof(int));
    const std::ptrdiff_t oldest =
        line.wrapped(now - static_cast<std::ptrdiff_t>(voice.base + samples_of_lane) - behind);
    for (int k = 0; k < kPointCount; ++k) points_of[k][lane] = line.ring[oldest + k];
  }
  for (int k = 0; k < kPointCount; ++k) u[k] = load(points_of[k]);
  return voice.gain * interpolated(u, offset - __builtin_convertvector(whole, Vec));
}

// The voices together, for `n` samples of a chunk.
template <int kPointCount>
static void add_voices(const DelayLine& line, const DelayVoice* voices, std::ptrdiff_t place,
                       std::uint64_t sample, int n, float* d, float* scratch) {
  const int count = static_cast<int>(line.number(kVoices));
  for (int t = 0; t < n; t += kVec) {
    Vec sum = {};
    for (int v = 0; v < count; ++v) {
      sum += voice_of<kPointCount>(line, voices[v], place + t,
                                   sample + static_cast<std::uint64_t>(t), scratch);
    }
    store(d + t, sum);
  }
}

static void put_in_ring(const DelayLine& line, std::ptrdiff_t place, const float* values, int n) {
  for (int i = 0; i < n; ++i) {
    const std::ptrdiff_t at = line.wrapped(place + i);
    line.ring[at] = values[i];
    if (at < kDelayMirror) line.ring[line.task.ring + at] = values[i];
  }
}

// In double, one sample after the other: the recursion of a section, as in delay_task.h.
static void run_sections(const DelayLine& line, const float* d, float* f, int n) {
  const int sections = static_cast<int>(line.number(kSections));
  const float* numbers = delay_sections(line.task.numbers);
  auto* memory = reinterpret_cast<double*>(line.task.state + kDelaySectionOffset);
  for (int t = 0; t < n; ++t) {
    auto x = static_cast<double>(d[t]);
    for (int s = 0; s < sections; ++s) {
      const float* of = numbers + s * kSectionFloats;
      const double g = static_cast<double>(of[0]), k = static_cast<double>(of[1]);
      const double a1 = 1.0 / (1.0 + g * (g + k)), a2 = g * a1;
      double& first = memory[2 * s];
      double& second = memory[2 * s + 1];
      const double v3 = x - second;
      const double band = a1 * first + a2 * v3;
      const double low = second + g * band;
      first = 2.0 * band - first;
      second = 2.0 * low - second;
      x = static_cast<double>(of[2]) * x + static_cast<double>(of[3]) * band +
          static_cast<double>(of[4]) * low;
    }
    f[t] = static_cast<float>(x);
  }
}

static void delay_chunk(const DelayLine& line, const DelayVoice* voices, int first, int n) {
  const DelayTask& task = line.task;
  auto* position = reinterpret_cast<DelayPosition*>(task.state);
  const std::uint64_t sample = position->samples;
  const auto place = static_cast<std::ptrdiff_t>(sample % static_cast<std::uint64_t>(task.ring));
  const float* x = task.input + first;
  float* d = task.state + kDelayMadeOffset;
  float* f = d + kDelayChunkFloats;
  const bool has_feedback = line.number(kFeedback) != 0.0f;
  if (!has_feedback) put_in_ring(line, place, x, n);
  // What the sections make comes later: its room is free until then.
  if (line.number(kPoints) == 2.0f) {
    add_voices<2>(line, voices, place, sample, n, d, f);
  } else {
    add_voices<4>(line, voices, place, sample, n, d, f);
  }
  const bool has_sections = line.number(kSections) != 0.0f;
  if (has_sections) run_sections(line, d, f, n);
  const float* filtered = has_sections ? f : d;
  const Vec feedback = broadcast(line.number(kFeedback)), dry = broadcast(line.number(kDry));
  const Vec wet = broadcast(line.number(kWet));
  const Vec wet_filtered = broadcast(line.number(kWetFiltered));
  float u[kDelayChunk + kMaxVectorFloats];
  for (int t = 0; t < n; t += kVec) {
    const Vec in = load(x + t), from_d = load(d + t), from_f = load(filtered + t);
    store(u + t, in + feedback * from_f);
    store(task.output + first + t, in * dry + (from_d * wet + from_f * wet_filtered));
  }
  if (has_feedback) put_in_ring(line, place, u, n);
  position->samples += static_cast<std::uint64_t>(n);
}

void delay(const DelayTask& task) noexcept {
  const DelayLine line = {task, task.state + kDelayRingOffset};
  DelayVoice voices[kMaxVoices];
  const int count = static_cast<int>(task.numbers[kVoices]);
  for (int v = 0; v < count; ++v) voices[v] = delay_voice(task.numbers, v);
  // What is fed back is heard after the shortest delay, less the point that looks ahead.
  std::int64_t most = kDelayChunk;
  const auto shortest = static_cast<std::int64_t>(task.numbers[kShortest]);
  const std::int64_t known = shortest - (task.numbers[kPoints] == 4.0f ? 1 : 0);
  if (task.numbers[kFeedback] != 0.0f && known < most) most = known;
  for (int first = 0; first < task.samples;) {
    const int left = task.samples - first;
    const int n = left < most ? left : static_cast<int>(most);
    delay_chunk(line, voices, first, n);
    first += n;
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
