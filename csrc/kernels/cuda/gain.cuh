// Gains that follow the level: csrc/kernels/gain_task.h has the equations, level_gain_body.inl the
// same passes. What depends on a sample alone is made side by side, the recursions one sample after
// the other in double, a thread a stream.
#pragma once

#include "kernels/cuda/team.cuh"
#include "kernels/gain_task.h"

namespace fxfast::cuda {

// log2(x) for normal x > 0: x = 2^n m with m from sqrt(1/2) to sqrt(2), and log2(m) is an odd
// series in (m - 1) / (m + 1) of which five terms are exact to 1e-9.
FXFAST_DEVICE float log2_of(float x) {
  const std::int32_t bits = as_bits(x), n = (bits - 0x3f3504f3) >> 23;
  const float m = as_float(bits - n * (1 << 23));
  const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const float series =
      (((s2 * 0.320598898f + 0.412198583f) * s2 + 0.577078016f) * s2 + 0.961796694f) * s2 +
      2.88539008f;
  return static_cast<float>(n) + s * series;
}

// 2^w for |w| up to 120; (2^r - 1) / r to 5.5e-9, Chebyshev nodes.
FXFAST_DEVICE float power_of_two(float w) {
  const float n = nearest(fminf(fmaxf(w, -120.0f), 120.0f)), r = w - n;
  float y = 1.5303702e-5f;
  y = multiply_add(y, r, 1.5461448e-4f);
  y = multiply_add(y, r, 1.3333479e-3f);
  y = multiply_add(y, r, 9.618057e-3f);
  y = multiply_add(y, r, 5.550411e-2f);
  y = multiply_add(y, r, 2.402265e-1f);
  y = multiply_add(y, r, 6.931472e-1f);
  const float scale = as_float((static_cast<std::int32_t>(n) + 127) << 23);
  return multiply_add(scale, y * r, scale);
}

FXFAST_DEVICE void step_gate(const float* numbers, double level, GainState& state) {
  const auto hold = static_cast<std::int32_t>(numbers[kGainHold]);
  if (state.phase == kGateClosing && level >= numbers[kGainOpen]) {
    state.phase = kGateOpening;
  } else if (state.phase == kGateOpen) {
    if (level >= numbers[kGainClose]) {
      state.hold = hold;
    } else if (state.hold <= 0) {
      state.phase = kGateClosing;
    } else {
      --state.hold;
    }
  }
  const bool exponential = numbers[kGainExponential] > 0.0f;
  if (state.phase == kGateClosing) {
    state.gain -= numbers[kGainFall] * (exponential ? state.gain : 1.0);
    if (state.gain < kGateSilent) state.gain = 0.0;
    return;
  }
  state.gain += numbers[kGainRise] * (exponential ? 1.0 - state.gain : 1.0);
  if (state.gain > 1.0) state.gain = 1.0;
  if (state.phase == kGateOpening && state.gain >= (exponential ? kGateArrived : 1.0)) {
    state.phase = kGateOpen;
    state.hold = hold;
  }
}

// From rectified samples to levels, or of a gate to gains.
FXFAST_DEVICE void follow_level(const float* numbers, GainState& kept, float* d, int first,
                                int samples) {
  GainState state = kept;
  const double share = numbers[kGainAverage];
  const double rise = numbers[kGainDetectorRise], fall = numbers[kGainDetectorFall];
  const double range = numbers[kGainRange];
  const bool is_gate = numbers[kGainKindNumber] > 0.0f;
  for (int t = 0; t < samples; ++t) {
    if (t >= first) {
      if (share < 1.0) {
        state.average += share * (d[t] - state.average);
        d[t] = static_cast<float>(state.average);
      }
      const double step = d[t] - state.level;
      state.level += (step > 0.0 ? rise : fall) * step;
      d[t] = static_cast<float>(state.level);
      if (is_gate) step_gate(numbers, d[t], state);
    } else {
      d[t] = static_cast<float>(state.level);
    }
    if (is_gate) d[t] = static_cast<float>(range + (1.0 - range) * state.gain);
  }
  kept = state;
}

// What the curve has for a level; silence is at its first point.
FXFAST_DEVICE float on_curve(const float* numbers, int points, float level) {
  const float log2 =
      log2_of(fmaxf(level, 1.17549435e-38f)) * (numbers[kGainSquares] > 0.0f ? 0.5f : 1.0f);
  const float place = fminf(fmaxf((log2 - numbers[kGainFirstLevel]) * numbers[kGainPerLevel], 0.0f),
                            static_cast<float>(points - 1));
  int point = static_cast<int>(place);
  if (point > points - 2) point = points - 2;
  const float* at = numbers + kGainNumbers + point;
  return at[0] + (place - static_cast<float>(point)) * (at[1] - at[0]);
}

FXFAST_DEVICE void follow_curve(const float* numbers, GainState& state, float* d, int first,
                                int samples) {
  const double rise = numbers[kGainRise], fall = numbers[kGainFall];
  double gain = state.gain;
  for (int t = 0; t < samples; ++t) {
    if (t >= first) {
      const double step = d[t] - gain;
      gain += (step > 0.0 ? rise : fall) * step;
    }
    d[t] = static_cast<float>(gain);
  }
  state.gain = gain;
}

FXFAST_DEVICE void level_gain(const Team& team, const CudaOp& op) {
  const float* numbers = team.floats + op.params;
  const bool squares = numbers[kGainSquares] > 0.0f, is_gate = numbers[kGainKindNumber] > 0.0f;
  const int block = static_cast<int>(header_of(*team.run).block_samples);
  float* scratch = shared_memory() + op.scratch;
  // Rectify, follow the level, look up, follow that, amplify.
  for (int pass = 0; pass < 5; ++pass) {
    if (is_gate && (pass == 2 || pass == 3)) continue;
    const bool is_recursion = pass == 1 || pass == 3;
    const int items = team.streams * (is_recursion ? 1 : block);
    for (int i = thread_index(); i < items; i += thread_count()) {
      const int stream = is_recursion ? i : i / block, t = is_recursion ? 0 : i % block;
      const int samples = team.samples(stream);
      float* d = scratch + stream * block;
      if (is_recursion) {
        auto& state = *reinterpret_cast<GainState*>(team.state(stream) + op.state);
        const int first = team.unheard(stream);
        if (pass == 1) {
          follow_level(numbers, state, d, first, samples);
        } else {
          follow_curve(numbers, state, d, first, samples);
        }
        continue;
      }
      if (t >= samples) continue;
      const float x = team.row(stream, op.a, 0)[t];
      if (pass == 0) {
        d[t] = squares ? x * x : fabsf(x);
      } else if (pass == 2) {
        d[t] = on_curve(numbers, op.in_channels, d[t]);
      } else {
        team.row(stream, op.output, 0)[t] = x * (is_gate ? d[t] : power_of_two(d[t]));
      }
    }
    wait_for_all();
  }
}

}  // namespace fxfast::cuda
