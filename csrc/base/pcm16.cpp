#include "base/pcm16.h"

#include <bit>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace fxfast {
namespace {

constexpr float kFullScale = 32768.0f;
// Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
constexpr float kMagic = 12582912.0f;

float value_of(std::int16_t sample) { return static_cast<float>(sample) * (1.0f / kFullScale); }

std::int16_t sample_of(float value) {
  const float scaled = value * kFullScale;
  const float above = scaled > -kFullScale ? scaled : -kFullScale;
  const float clipped = above < kFullScale - 1.0f ? above : kFullScale - 1.0f;
  return static_cast<std::int16_t>(std::bit_cast<std::uint32_t>(clipped + kMagic));
}

#ifdef __SSE2__
// Eight samples: the conversion rounds as the mode says, and packing clips.
__m128i eight_of(const float* values) {
  const auto four = [](const float* p) {
    const __m128 scaled = _mm_mul_ps(_mm_loadu_ps(p), _mm_set1_ps(kFullScale));
    return _mm_cvtps_epi32(_mm_min_ps(scaled, _mm_set1_ps(kFullScale)));
  };
  return _mm_packs_epi32(four(values), four(values + 4));
}

void put(std::int16_t* samples, __m128i eight) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(samples), eight);
}
#endif

// The first frames of one or two channels, eight at a time; returns how many.
std::size_t write_eights(const float* rows, std::ptrdiff_t stride, std::size_t channels,
                         std::size_t frames, std::int16_t* samples) {
  std::size_t t = 0;
#ifdef __SSE2__
  for (; channels == 1 && t + 8 <= frames; t += 8) put(samples + t, eight_of(rows + t));
  for (; channels == 2 && t + 8 <= frames; t += 8) {
    const __m128i left = eight_of(rows + t), right = eight_of(rows + stride + t);
    put(samples + 2 * t, _mm_unpacklo_epi16(left, right));
    put(samples + 2 * t + 8, _mm_unpackhi_epi16(left, right));
  }
#else
  (void)rows, (void)stride, (void)channels, (void)frames, (void)samples;
#endif
  return t;
}

}  // namespace

void rows_from_int16(const std::int16_t* samples, std::size_t channels, std::size_t frames,
                     float* rows, std::ptrdiff_t stride) noexcept {
  if (channels == 2) {  // in one pass, of which the compiler makes vectors
    float* other = rows + stride;
    for (std::size_t t = 0; t < frames; ++t) {
      rows[t] = value_of(samples[2 * t]);
      other[t] = value_of(samples[2 * t + 1]);
    }
    return;
  }
  for (std::size_t c = 0; c < channels; ++c, rows += stride) {
    for (std::size_t t = 0; t < frames; ++t) rows[t] = value_of(samples[t * channels + c]);
  }
}

void int16_from_rows(const float* rows, std::ptrdiff_t stride, std::size_t channels,
                     std::size_t frames, std::int16_t* samples) noexcept {
  const std::size_t written = write_eights(rows, stride, channels, frames, samples);
  for (std::size_t c = 0; c < channels; ++c, rows += stride) {
    for (std::size_t t = written; t < frames; ++t) samples[t * channels + c] = sample_of(rows[t]);
  }
}

}  // namespace fxfast
