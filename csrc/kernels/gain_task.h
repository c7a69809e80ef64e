// A gain that follows the level of its input: the task of the kernel level_gain.
//
// Detector:  a[t] = a[t-1] + average (d[t] - a[t-1]),  d = |x| or x^2;
//   e[t] = e[t-1] + k (a[t] - e[t-1]),  k = rise where a[t] > e[t-1], or fall
// Compressor:  l = log2 of the detected amplitude;  c = curve at l, straight between its
// points and
//   level beyond them;  s[t] = s[t-1] + k (c - s[t-1]), k = gain_fall where c < s[t-1], or
//   gain_rise;  y = x 2^s
// Gate: closed until e >= open; then it opens to the end, whatever comes; then it is open until e
//   has been below close for more than `hold` samples; then it closes, unless e >= open again.
//   Opening adds gain_rise to g, closing takes gain_fall away, up to 1 and down to 0; with
//   exponential ramps those are shares of 1 - g and of g.  y = x (range + (1 - range) g)
#pragma once

#include <cstdint>

namespace fxfast {

enum class GainKind : std::uint32_t { kCompressor = 0, kGate = 1 };

// The places of the numbers; the curve follows them, its values in log2 of the gain.
enum GainNumber : int {
  kGainKindNumber,
  kGainSquares,  // 1: the detector takes squares
  kGainDetectorRise,
  kGainDetectorFall,
  kGainRise,
  kGainFall,
  kGainHold,
  kGainOpen,  // as the detector has it, squared with it
  kGainClose,
  kGainRange,
  kGainExponential,  // 1: exponential ramps of the gate
  kGainFirstLevel,   // log2 of the amplitude at the first point of the curve
  kGainPerLevel,     // points for each doubling of the amplitude
  kGainAverage,      // 1: no average
  kGainNumbers,
};
constexpr int kMinCurvePoints = 2;
constexpr int kMaxCurvePoints = 4096;

// Before any sound a compressor's gain is what its curve has for silence, and a gate is closed.
struct GainState {
  double average;
  double level;
  double gain;  // s or g
  std::int32_t hold;
  std::int32_t phase;
};
constexpr int kGainStateFloats = sizeof(GainState) / sizeof(float);
// Of a gate.
constexpr std::int32_t kGateClosing = 0, kGateOpening = 1, kGateOpen = 2;
// An exponential ramp is at its end from here on.
constexpr double kGateArrived = 0.999;
// Below, a gate is closed for good: no smaller g is heard, and denormal numbers are slow.
constexpr double kGateSilent = 1e-12;

struct LevelGainTask {
  const float* input;  // rows have the slack of ConvTask
  float* output;       // may be `input`
  const float* numbers;
  GainState* state;
  int points;  // of the curve
  int samples;
};

}  // namespace fxfast
