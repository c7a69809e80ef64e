#include "engine/delay.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace fxfast {
namespace {

void require(bool ok, const std::string& name, const std::string& expected) {
  if (!ok) throw ModelError(name + ": expected " + expected + ", got other numbers");
}

bool is_whole(float value, double least, double most) {
  const auto number = static_cast<double>(value);
  return number >= least && number <= most && number == std::floor(number);
}

void check_header(const float* numbers, std::size_t count, const std::string& name) {
  require(count >= kDelayHeaderFloats, name, "the numbers of a delay");
  for (std::size_t i = 0; i < count; ++i) {
    require(std::isfinite(numbers[i]), name, "finite values");
  }
  require(numbers[kPoints] == 2.0f || numbers[kPoints] == 4.0f, name, "2 or 4 points");
  require(is_whole(numbers[kVoices], 1, kMaxVoices), name, "1 to 16 voices");
  require(is_whole(numbers[kSections], 0, kMaxSections), name, "up to 8 sections");
  const auto floats =
      kDelayHeaderFloats + numbers[kVoices] * kVoiceFloats + numbers[kSections] * kSectionFloats;
  require(static_cast<std::size_t>(floats) <= count, name, "whole voices and sections");
}

void check_voice(const float* numbers, std::size_t count, int voice, const std::string& name) {
  const float* of = numbers + kDelayHeaderFloats + voice * kVoiceFloats;
  for (int i = 1; i < 10; ++i) {
    if (i != 3) require(is_whole(of[i], 0, 65535), name, "whole numbers of 16 bits");
  }
  require(is_whole(of[3], 1, 1 << kMaxTableBits), name, "a table of up to 4096 entries");
  const auto entries = static_cast<std::size_t>(of[3]);
  require((entries & (entries - 1)) == 0, name, "a table of a power of two");
  require(is_whole(of[10], 0, static_cast<double>(count)), name, "a table among the numbers");
  require(static_cast<std::size_t>(of[10]) + entries <= count, name, "a whole table");
}

// The gain of all voices, of the sections, and of the loop around, for a constant.
struct Rest {
  double d, f, u;  // for an input of one
};

Rest rest_of(const float* numbers) noexcept {
  double gain = 0.0, filtered = 1.0;
  for (int v = 0; v < static_cast<int>(numbers[kVoices]); ++v) {
    gain += static_cast<double>(delay_voice(numbers, v).gain);
  }
  const float* sections = delay_sections(numbers);
  for (int s = 0; s < static_cast<int>(numbers[kSections]); ++s) {
    const float* of = sections + s * kSectionFloats;
    filtered *= static_cast<double>(of[2]) + static_cast<double>(of[4]);
  }
  const double around = static_cast<double>(numbers[kFeedback]) * gain * filtered;
  const double u = 1.0 / (1.0 - around);
  return {u * gain, u * gain * filtered, u};
}

}  // namespace

DelaySizes check_delay(const float* numbers, std::size_t count, const std::string& name) {
  check_header(numbers, count, name);
  DelaySizes sizes;
  sizes.shortest = kMaxDelaySamples;
  for (int v = 0; v < static_cast<int>(numbers[kVoices]); ++v) {
    check_voice(numbers, count, v, name);
    const DelayVoice voice = delay_voice(numbers, v);
    const std::size_t entries = std::size_t{1} << voice.bits;
    const auto [low, high] = std::minmax_element(voice.table, voice.table + entries);
    require(*low >= 0.0f && *high <= 1e6f, name, "a table from 0 to 1e6 samples");
    sizes.shortest =
        std::min(sizes.shortest, voice.base + static_cast<std::int64_t>(std::floor(*low)));
    sizes.longest =
        std::max(sizes.longest, voice.base + static_cast<std::int64_t>(std::ceil(*high)));
  }
  require(sizes.longest <= kMaxDelaySamples, name, "a delay of up to 2^22 samples");
  const bool looks_ahead = numbers[kPoints] == 4.0f, has_feedback = numbers[kFeedback] != 0.0f;
  require(sizes.shortest >= (looks_ahead ? 1 : 0) + (has_feedback ? 1 : 0), name,
          "a delay of a sample, one more for 4 points and one more for feedback");
  const float* sections = delay_sections(numbers);
  for (int s = 0; s < static_cast<int>(numbers[kSections]); ++s) {
    require(sections[s * kSectionFloats] > 0.0f && sections[s * kSectionFloats + 1] > 0.0f, name,
            "sections with g and k above 0");
  }
  const Rest rest = rest_of(numbers);
  require(std::isfinite(rest.u) && rest.u > 0.0 && rest.u < 1e6, name, "a feedback that dies away");
  sizes.multiply_adds = static_cast<std::int64_t>(numbers[kVoices] * (2.0f + numbers[kPoints]) +
                                                  numbers[kSections] * 8.0f + 4.0f);
  return sizes;
}

void run_delay_at_rest(const DelayTask& task) noexcept {
  const Rest rest = rest_of(task.numbers);
  const double gain = static_cast<double>(task.numbers[kDry]) +
                      static_cast<double>(task.numbers[kWet]) * rest.d +
                      static_cast<double>(task.numbers[kWetFiltered]) * rest.f;
  for (int t = 0; t < task.samples; ++t) {
    task.output[t] = static_cast<float>(gain * static_cast<double>(task.input[t]));
  }
  if (task.samples > 0) {
    reinterpret_cast<DelayPosition*>(task.state)->held = task.input[task.samples - 1];
  }
}

void rest_delay(const float* numbers, float* state, std::ptrdiff_t ring) noexcept {
  auto* position = reinterpret_cast<DelayPosition*>(state);
  const Rest rest = rest_of(numbers);
  const auto held = static_cast<double>(position->held);
  std::fill_n(state + kDelayRingOffset, ring + kDelayMirror, static_cast<float>(rest.u * held));
  auto* memory = reinterpret_cast<double*>(state + kDelaySectionOffset);
  double through = rest.d * held;
  const float* sections = delay_sections(numbers);
  for (int s = 0; s < static_cast<int>(numbers[kSections]); ++s) {
    const float* of = sections + s * kSectionFloats;
    memory[2 * s] = 0.0;
    memory[2 * s + 1] = through;
    through *= static_cast<double>(of[2]) + static_cast<double>(of[4]);
  }
  *position = {};
}

}  // namespace fxfast
