#include "kernels/delay_reference.h"

#include <cmath>

namespace fxfast {
namespace {

class Line {
 public:
  explicit Line(const DelayTask& task)
      : task_(task),
        ring_(task.state + kDelayRingOffset),
        sections_(reinterpret_cast<double*>(task.state + kDelaySectionOffset)) {}

  double number(int field) const { return static_cast<double>(task_.numbers[field]); }

  float& at(std::uint64_t sample, std::int64_t before) const {
    const auto ring = static_cast<std::uint64_t>(task_.ring);
    return ring_[(sample + ring - static_cast<std::uint64_t>(before)) % ring];
  }

  double voices(std::uint64_t sample) const {
    double sum = 0.0;
    for (int v = 0; v < static_cast<int>(number(kVoices)); ++v) {
      const DelayVoice voice = delay_voice(task_.numbers, v);
      const double entries = std::ldexp(1.0, voice.bits);
      const double phase = std::ldexp(static_cast<double>(delay_phase(voice, sample)), -kPhaseBits);
      const auto entry = static_cast<int>(phase * entries);
      const double share = phase * entries - entry;
      const auto next = (entry + 1) % static_cast<int>(entries);
      const double offset = (1.0 - share) * static_cast<double>(voice.table[entry]) +
                            share * static_cast<double>(voice.table[next]);
      sum += static_cast<double>(voice.gain) * interpolated(sample, voice.base, offset);
    }
    return sum;
  }

  double section(int index, double x) const {
    const float* of = delay_sections(task_.numbers) + index * kSectionFloats;
    const auto part = [&](int i) { return static_cast<double>(of[i]); };
    double* memory = sections_ + 2 * index;
    const double band =
        (memory[0] + part(0) * (x - memory[1])) / (1.0 + part(0) * (part(0) + part(1)));
    const double low = memory[1] + part(0) * band;
    memory[0] = 2.0 * band - memory[0];
    memory[1] = 2.0 * low - memory[1];
    return part(2) * x + part(3) * band + part(4) * low;
  }

 private:
  double interpolated(std::uint64_t sample, std::int64_t base, double offset) const {
    const auto whole = static_cast<std::int64_t>(offset);
    const double f = offset - static_cast<double>(whole);
    const auto u = [&](int k) { return static_cast<double>(at(sample, base + whole + k)); };
    if (number(kPoints) == 2.0) return (1.0 - f) * u(0) + f * u(1);
    return -f * (f - 1) * (f - 2) / 6 * u(-1) + (f + 1) * (f - 1) * (f - 2) / 2 * u(0) -
           (f + 1) * f * (f - 2) / 2 * u(1) + (f + 1) * f * (f - 1) / 6 * u(2);
  }

  const DelayTask& task_;
  float* ring_;
  double* sections_;
};

}  // namespace

void reference_delay(const DelayTask& task) noexcept {
  const Line line(task);
  auto* position = reinterpret_cast<DelayPosition*>(task.state);
  for (int t = 0; t < task.samples; ++t, ++position->samples) {
    const std::uint64_t now = position->samples;
    const auto x = static_cast<double>(task.input[t]);
    float& u = line.at(now, 0);
    u = task.input[t];
    const double d = line.voices(now);
    double f = d;
    for (int s = 0; s < static_cast<int>(line.number(kSections)); ++s) f = line.section(s, f);
    u = static_cast<float>(x + line.number(kFeedback) * f);
    task.output[t] = static_cast<float>(line.number(kDry) * x + line.number(kWet) * d +
                                        line.number(kWetFiltered) * f);
  }
}

}  // namespace fxfast
