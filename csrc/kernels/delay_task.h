// A delay line with voices, feedback and filters: packed numbers, state, task.
//
// With u the line, P interpolation points, and L the sections one after the other:
//   d[t] = sum over voices of gain * u[t - delay(t)]
//   f[t] = (L d)[t]
//   u[t] = x[t] + feedback * f[t]
//   y[t] = dry * x[t] + wet * d[t] + wet_filtered * f[t]
// A voice's delay is base + table(phase), in samples: the table is one cycle, read with straight
// lines between its entries, and phase = (start + step * t) modulo 2^48, t counted from the start
// of the stream. So a phase is an exact function of time, whatever the split, for ever.
//
// A section is a state variable filter in trapezoidal form (Zavalishin, The art of VA filter
// design, 2018, chapter 4): with g = tan(pi * frequency / rate), k = 1 / Q,
//   H(s) = m0 + (m1 s + m2) / (s^2 + k s + 1),  s = j tan(w / 2) / g.
// It is accurate in float32 at the lowest frequencies, where direct forms are not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

constexpr int kMaxVoices = 16;
constexpr int kMaxSections = 8;
constexpr int kMaxTableBits = 12;
constexpr std::int64_t kMaxDelayNumbers = 8 + kMaxVoices * (12 + 4096) + 5 * kMaxSections;
constexpr int kPhaseBits = 48;
constexpr std::int64_t kMaxDelaySamples = std::int64_t{1} << 22;

// The packed numbers: header, then voices, sections and tables. kShortest: whole samples that every
// voice is late by at any time; the plan fills it in.
enum DelayField : int {
  kDry,
  kWet,
  kWetFiltered,
  kFeedback,
  kPoints,
  kVoices,
  kSections,
  kShortest
};
constexpr int kDelayHeaderFloats = 8;
// gain | base, two numbers of 16 bits, the high one first | entries of the table | step and start,
// three numbers of 16 bits each | where the table begins in the packed numbers
constexpr int kVoiceFloats = 12;
constexpr int kSectionFloats = 5;  // g, k, m0, m1, m2

// Samples that are made at once; what a ring has beyond the longest delay, and repeats at its end,
// so that whole vectors are read without a look at where it wraps.
constexpr int kDelayChunk = 256;
constexpr int kDelayMirror = 32;
constexpr std::ptrdiff_t delay_ring_samples(std::int64_t longest) {
  return static_cast<std::ptrdiff_t>((longest + 4 + kDelayChunk + kDelayMirror + 15) / 16 * 16);
}

// State: DelayPosition | two doubles a section | d and f of a chunk | the ring and its mirror.
struct DelayPosition {
  std::uint64_t samples;
  float held;  // the input while the stream settles
  float reserved[13];
};
constexpr std::ptrdiff_t kDelaySectionOffset = sizeof(DelayPosition) / sizeof(float);
constexpr std::ptrdiff_t kDelayChunkFloats = kDelayChunk + 16;
constexpr std::ptrdiff_t kDelayMadeOffset = kDelaySectionOffset + 4 * kMaxSections;
constexpr std::ptrdiff_t kDelayRingOffset = kDelayMadeOffset + 2 * kDelayChunkFloats;
constexpr std::ptrdiff_t delay_state_floats(std::ptrdiff_t ring) {
  return kDelayRingOffset + ring + kDelayMirror;
}

struct DelayVoice {
  float gain;
  std::int64_t base;
  int bits;  // the table has 2^bits entries
  std::uint64_t step, start;
  const float* table;
};

// Static: a copy that was compiled for one instruction set must not serve another.
static inline std::uint64_t delay_phase(const DelayVoice& voice, std::uint64_t sample) {
  return (voice.start + voice.step * sample) & ((std::uint64_t{1} << kPhaseBits) - 1);
}

static inline std::uint64_t joined(const float* halves, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 16 | static_cast<std::uint64_t>(halves[i]);
  return value;
}

// `numbers` are whole and consistent (engine/delay.h).
static inline DelayVoice delay_voice(const float* numbers, int voice) {
  const float* of = numbers + kDelayHeaderFloats + voice * kVoiceFloats;
  int bits = 0;
  while ((1 << bits) < static_cast<int>(of[3])) ++bits;
  return {of[0],
          static_cast<std::int64_t>(joined(of + 1, 2)),
          bits,
          joined(of + 4, 3),
          joined(of + 7, 3),
          numbers + static_cast<std::ptrdiff_t>(of[10])};
}

static inline const float* delay_sections(const float* numbers) {
  return numbers + kDelayHeaderFloats + static_cast<int>(numbers[kVoices]) * kVoiceFloats;
}

struct DelayTask {
  const float* input;  // rows with the slack of ConvTask
  float* output;
  const float* numbers;
  float* state;
  std::ptrdiff_t ring;  // samples
  int samples;
};

}  // namespace fxfast
