#include "kernels/gain_reference.h"

#include <algorithm>
#include <cmath>

namespace fxfast {
namespace {

double number(const LevelGainTask& task, GainNumber which) {
  return static_cast<double>(task.numbers[which]);
}

double detected(const LevelGainTask& task, double x) {
  const double rectified = number(task, kGainSquares) > 0.0 ? x * x : std::abs(x);
  double& d = task.state->average;
  d += number(task, kGainAverage) * (rectified - d);
  double& level = task.state->level;
  const GainNumber k = d > level ? kGainDetectorRise : kGainDetectorFall;
  level += number(task, k) * (d - level);
  return level;
}

double compressed(const LevelGainTask& task, double level) {
  const double amplitude = number(task, kGainSquares) > 0.0 ? std::sqrt(level) : level;
  const double log2 = std::log2(std::max(amplitude, 1e-38));
  const double place = std::clamp(
      (log2 - number(task, kGainFirstLevel)) * number(task, kGainPerLevel), 0.0, task.points - 1.0);
  const int point = std::min(static_cast<int>(place), task.points - 2);
  const float* at = task.numbers + kGainNumbers + point;
  const double low = static_cast<double>(at[0]), high = static_cast<double>(at[1]);
  const double target = low + (place - point) * (high - low);
  double& gain = task.state->gain;
  gain += number(task, target > gain ? kGainRise : kGainFall) * (target - gain);
  return std::exp2(gain);
}

void choose_phase(const LevelGainTask& task, double level) {
  GainState& state = *task.state;
  const auto hold = static_cast<std::int32_t>(number(task, kGainHold));
  switch (state.phase) {
    case kGateClosing:
      if (level >= number(task, kGainOpen)) state.phase = kGateOpening;
      break;
    case kGateOpen:
      if (level >= number(task, kGainClose)) {
        state.hold = hold;
      } else if (state.hold-- <= 0) {
        state.hold = 0;
        state.phase = kGateClosing;
      }
      break;
    default: break;
  }
}

double gated(const LevelGainTask& task, double level) {
  choose_phase(task, level);
  GainState& state = *task.state;
  const bool exponential = number(task, kGainExponential) > 0.0;
  if (state.phase == kGateClosing) {
    const double left = exponential ? state.gain : 1.0;
    state.gain -= number(task, kGainFall) * left;
    if (state.gain < kGateSilent) state.gain = 0.0;
  } else {
    const double left = exponential ? 1.0 - state.gain : 1.0;
    state.gain = std::min(1.0, state.gain + number(task, kGainRise) * left);
    const double end = exponential ? kGateArrived : 1.0;
    if (state.phase == kGateOpening && state.gain >= end) {
      state.phase = kGateOpen;
      state.hold = static_cast<std::int32_t>(number(task, kGainHold));
    }
  }
  const double range = number(task, kGainRange);
  return range + (1.0 - range) * state.gain;
}

}  // namespace

void reference_level_gain(const LevelGainTask& task) noexcept {
  const bool is_gate = number(task, kGainKindNumber) > 0.0;
  for (int t = 0; t < task.samples; ++t) {
    const auto x = static_cast<double>(task.input[t]);
    const double level = detected(task, x);
    task.output[t] =
        static_cast<float>(x * (is_gate ? gated(task, level) : compressed(task, level)));
  }
}

}  // namespace fxfast
