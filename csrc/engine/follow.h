// One-pole smoothing with a coefficient for rises and one for falls, and its gradients: what
// detectors and gains of compressors are made of, for training.
//   y[t] = y[t-1] + k (x[t] - y[t-1]),  k = rise where x[t] > y[t-1], else fall,  y[-1] = start
#pragma once

#include <cstdint>

#include "kernels/gain_task.h"

namespace fxfast {

template <typename Real>
void follow(const Real* x, std::int64_t samples, double start, double rise, double fall,
            Real* y) noexcept {
  double level = start;
  for (std::int64_t t = 0; t < samples; ++t) {
    const double step = static_cast<double>(x[t]) - level;
    level += (step > 0.0 ? rise : fall) * step;
    y[t] = static_cast<Real>(level);
  }
}

struct FollowSums {
  double start = 0.0, rise = 0.0, fall = 0.0;
};

// grad_x and the gradients of the three numbers, from y and the gradient of y. With m[t] the
// gradient of all that y[t] leads to, m[t] = grad_y[t] + (1 - k[t+1]) m[t+1].
template <typename Real>
FollowSums follow_backward(const Real* grad_y, const Real* x, const Real* y, std::int64_t samples,
                           double start, double rise, double fall, Real* grad_x) noexcept {
  FollowSums sums;
  double later = 0.0;
  for (std::int64_t t = samples; t-- > 0;) {
    const double before = t > 0 ? static_cast<double>(y[t - 1]) : start;
    const double step = static_cast<double>(x[t]) - before;
    const bool rises = step > 0.0;
    const double k = rises ? rise : fall;
    const double m = static_cast<double>(grad_y[t]) + later;
    (rises ? sums.rise : sums.fall) += m * step;
    grad_x[t] = static_cast<Real>(k * m);
    later = (1.0 - k) * m;
  }
  sums.start = later;
  return sums;
}

// The g of a gate (kernels/gain_task.h) over detected levels, and which way it goes: 1 up, -1 down,
// 0 where it is at an end.
struct GateNumbers {
  double open, close;
  std::int32_t hold;
  double rise, fall;
  bool exponential;
};

inline std::int32_t next_phase(const GateNumbers& gate, double level, GainState& state) noexcept {
  if (state.phase == kGateClosing) return level >= gate.open ? kGateOpening : kGateClosing;
  if (state.phase == kGateOpening) return kGateOpening;
  if (level >= gate.close) {
    state.hold = gate.hold;
  } else if (state.hold-- <= 0) {
    state.hold = 0;
    return kGateClosing;
  }
  return kGateOpen;
}

template <typename Real>
void gate_ramp(const Real* levels, std::int64_t samples, const GateNumbers& gate, Real* g,
               Real* way) noexcept {
  GainState state{0.0, 0.0, 0.0, 0, kGateClosing};
  for (std::int64_t t = 0; t < samples; ++t) {
    state.phase = next_phase(gate, static_cast<double>(levels[t]), state);
    const bool closes = state.phase == kGateClosing;
    const double left = closes ? state.gain : 1.0 - state.gain;
    const double step = (closes ? gate.fall : gate.rise) * (gate.exponential ? left : 1.0);
    const bool arrives = step >= left;
    state.gain = arrives ? (closes ? 0.0 : 1.0) : (closes ? state.gain - step : state.gain + step);
    const bool opened = state.gain >= (gate.exponential ? kGateArrived : 1.0);
    if (state.phase == kGateOpening && opened) {
      state.phase = kGateOpen;
      state.hold = gate.hold;
    }
    g[t] = static_cast<Real>(state.gain);
    way[t] = static_cast<Real>(arrives ? 0.0 : (closes ? -1.0 : 1.0));
  }
}

// The gradients for rise and fall (start is not used).
template <typename Real>
FollowSums gate_backward(const Real* grad_g, const Real* g, const Real* way, std::int64_t samples,
                         const GateNumbers& gate) noexcept {
  FollowSums sums;
  double later = 0.0;
  for (std::int64_t t = samples; t-- > 0;) {
    const double m = static_cast<double>(grad_g[t]) + later;
    const auto direction = static_cast<double>(way[t]);
    const double before = t > 0 ? static_cast<double>(g[t - 1]) : 0.0;
    const double left = direction > 0.0 ? 1.0 - before : before;
    const double slope = direction * (gate.exponential ? left : 1.0);
    const bool up = direction > 0.0;
    if (direction != 0.0) (up ? sums.rise : sums.fall) += m * slope;
    const double kept = gate.exponential ? 1.0 - (up ? gate.rise : gate.fall) : 1.0;
    later = direction == 0.0 ? 0.0 : kept * m;
  }
  return sums;
}

}  // namespace fxfast
