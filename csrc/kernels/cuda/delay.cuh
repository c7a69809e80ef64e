// Delay lines: csrc/kernels/delay_task.h has the equations, line_delay_body.inl the same sums.
//
// The state: what every sample before the stream was | the memories of the sections, two doubles
// each | the ring of the line. Samples are made in stretches that no voice reads from while they
// are made: voices and mixing side by side, sections one sample after the other, a thread a stream.
#pragma once

#include "kernels/cuda/team.cuh"

namespace fxfast::cuda {

constexpr int kDelayCells = 4;
constexpr std::uint64_t kPhaseMask = (std::uint64_t{1} << 48) - 1;

// A stream's line while a block is made.
struct LineOfStream {
  const float* ring;
  float before;         // the stream
  std::int64_t first;   // sample of the stream at time 0 of the block
  std::int32_t length;  // of the ring
  std::int32_t place;   // of time 0 in it, where there is one

  FXFAST_DEVICE LineOfStream(const Team& team, const CudaOp& op, const CudaDelay& delay, int stream)
      : ring(team.state(stream) + op.state + kDelayCells + 4 * delay.sections),
        before(team.state(stream)[op.state]),
        first(team.position(stream) - static_cast<std::int64_t>(header_of(*team.run).reach)),
        length(op.history),
        place(first < 0 ? 0 : ring_index(first, length)) {}

  // The sample at a time of the block, or before it.
  FXFAST_DEVICE float at(int time) const {
    if (first + time < 0) return before;
    if (first < 0) return ring[first + time];
    const int there = place + time;
    return ring[there < 0 ? there + length : there >= length ? there - length : there];
  }
  FXFAST_DEVICE int index(int time) const {
    const int there = first < 0 ? static_cast<int>(first) + time : place + time;
    return there >= length ? there - length : there;
  }
};

// Lagrange's interpolation, as on the CPU.
FXFAST_DEVICE float between_points(const LineOfStream& line, int points, int time, float f) {
  if (points == 2) {
    const float now = line.at(time);
    return now + f * (line.at(time - 1) - now);
  }
  const float less = f - 1.0f, least = f - 2.0f, more = f + 1.0f;
  const float inner = more * least * 0.5f, outer = f * less * (1.0f / 6.0f);
  return (line.at(time) * (inner * less) - line.at(time - 1) * (inner * f)) +
         (line.at(time - 2) * (outer * more) - line.at(time + 1) * (outer * least));
}

FXFAST_DEVICE float voice_at(const LineOfStream& line, const CudaVoice& voice, const float* numbers,
                             int points, int time) {
  const float* table = numbers + voice.table;
  float offset = table[0];
  if (voice.bits > 0) {
    const std::uint64_t sample = static_cast<std::uint64_t>(line.first + time);
    const std::uint64_t phase = (voice.start + voice.step * sample) & kPhaseMask;
    const int entry = static_cast<int>(phase >> (48 - voice.bits));
    const int fraction = static_cast<int>(phase >> (24 - voice.bits) & 0xffffff);
    const float from = table[entry], to = table[(entry + 1) & ((1 << voice.bits) - 1)];
    offset = from + static_cast<float>(fraction) * (1.0f / 16777216.0f) * (to - from);
  }
  const int whole = static_cast<int>(offset);
  return voice.gain * between_points(line, points, time - voice.base - whole,
                                     offset - static_cast<float>(whole));
}

// The filters of the loop over [begin, end) of a stream, from d to f.
FXFAST_DEVICE void filter_line(const CudaDelay& delay, const CudaSection* sections, double* memory,
                               const float* d, float* f, int begin, int end) {
  for (int s = 0; s < delay.sections; ++s) {
    const float* of = sections[s].numbers;
    const double g = of[0], k = of[1], over = 1.0 / (1.0 + g * (g + k));
    double m0 = memory[2 * s], m1 = memory[2 * s + 1];
    const float* from = s == 0 ? d : f;
    for (int t = begin; t < end; ++t) {
      const double x = from[t], band = (m0 + g * (x - m1)) * over, low = m1 + g * band;
      m0 = 2.0 * band - m0, m1 = 2.0 * low - m1;
      f[t] = static_cast<float>(of[2] * x + of[3] * band + of[4] * low);
    }
    memory[2 * s] = m0, memory[2 * s + 1] = m1;
  }
}

// Times of a block before the stream are played at rest.
FXFAST_DEVICE int times_at_rest(const LineOfStream& line, int samples) {
  if (line.first >= 0) return 0;
  return -line.first < samples ? static_cast<int>(-line.first) : samples;
}

FXFAST_DEVICE void delay_line(const Team& team, const CudaOp& op) {
  const float* numbers = team.floats + op.params;
  const auto& delay = *reinterpret_cast<const CudaDelay*>(numbers);
  const auto* voices = reinterpret_cast<const CudaVoice*>(numbers + sizeof(delay) / sizeof(float));
  const auto* sections = reinterpret_cast<const CudaSection*>(voices + delay.voices);
  const int block = static_cast<int>(header_of(*team.run).block_samples);
  const bool loops = delay.feedback != 0.0f;
  const int stretch = loops && delay.shortest < block ? delay.shortest : block;
  float* scratch = shared_memory() + op.scratch;
  for (int begin = 0; begin < block; begin += stretch) {
    const int span = stretch < block - begin ? stretch : block - begin;
    for (int pass = loops ? 1 : 0; pass < 4; ++pass) {
      if (pass == 2 && delay.sections == 0) continue;
      for (int i = thread_index(); i < team.streams * (pass == 2 ? 1 : span); i += thread_count()) {
        const int stream = pass == 2 ? i : i / span;
        const LineOfStream line(team, op, delay, stream);
        const int samples = team.samples(stream), rest = times_at_rest(line, samples);
        float* state = team.state(stream) + op.state;
        float* ring = state + kDelayCells + 4 * delay.sections;
        float* d = scratch + 2 * stream * block;
        float* f = delay.sections > 0 ? d + block : d;
        if (pass == 2) {
          const int end = begin + span < samples ? begin + span : samples;
          filter_line(delay, sections, reinterpret_cast<double*>(state + kDelayCells), d, f,
                      begin > rest ? begin : rest, end);
          continue;
        }
        const int t = begin + i % span;
        if (t >= samples) continue;
        const float x = team.row(stream, op.a, 0)[t];
        float* y = team.row(stream, op.output, 0) + t;
        if (t < rest) {
          if (pass == 3) *y = delay.gain_at_rest * x;
        } else if (pass == 0) {
          ring[line.index(t)] = x;
        } else if (pass == 1) {
          float sum = 0.0f;
          for (int v = 0; v < delay.voices; ++v) {
            sum += voice_at(line, voices[v], numbers, delay.points, t);
          }
          d[t] = sum;
        } else {
          if (loops) ring[line.index(t)] = x + delay.feedback * f[t];
          *y = delay.dry * x + (delay.wet * d[t] + delay.wet_filtered * f[t]);
        }
      }
      wait_for_all();
    }
  }
}

}  // namespace fxfast::cuda
