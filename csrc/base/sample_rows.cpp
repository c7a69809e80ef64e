#include "base/sample_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace fxfast {
namespace {

template <typename T>
T load_at(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

template <typename T>
void store_at(std::byte* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(value));
}

// What a sample in a file is worth.
struct Int16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr float kFullScale = 32768.0f;
  static float value(const std::byte* sample) {
    return static_cast<float>(load_at<std::int16_t>(sample)) * (1.0f / kFullScale);
  }
  static void put(std::byte* sample, long code) {
    store_at(sample, static_cast<std::int16_t>(code));
  }
};
struct Int24 {
  static constexpr std::size_t kBytes = 3;
  static constexpr float kFullScale = 8388608.0f;
  static float value(const std::byte* sample) {
    const std::uint32_t at_the_top = load_at<std::uint32_t>(sample) << 8;
    return static_cast<float>(static_cast<std::int32_t>(at_the_top)) * 0x1p-31f;
  }
  static void put(std::byte* sample, long code) {
    const auto bytes = static_cast<std::uint32_t>(code);
    std::memcpy(sample, &bytes, kBytes);
  }
};
struct Int32 {
  static constexpr std::size_t kBytes = 4;
  static float value(const std::byte* sample) {
    return static_cast<float>(load_at<std::int32_t>(sample)) * 0x1p-31f;
  }
};
struct Code24 {
  static constexpr std::size_t kBytes = 4;
  static constexpr float kFullScale = 8388608.0f;
  static void put(std::byte* sample, long code) {
    store_at(sample, static_cast<std::int32_t>(code));
  }
};
struct Float {
  static constexpr std::size_t kBytes = 4;
  static float value(const std::byte* sample) { return load_at<float>(sample); }
};

template <typename Sample>
void decode(const std::byte* samples, const Rows& rows) {
  const std::size_t step = rows.channels * Sample::kBytes;
  if (rows.channels == 2) {  // in one pass, of which the compiler makes vectors
    float *left = rows.data, *right = rows.data + rows.stride;
    for (std::size_t t = 0; t < rows.frames; ++t) {
      left[t] = Sample::value(samples + 2 * t * Sample::kBytes);
      right[t] = Sample::value(samples + (2 * t + 1) * Sample::kBytes);
    }
    return;
  }
  float* row = rows.data;
  for (std::size_t c = 0; c < rows.channels; ++c, row += rows.stride, samples += Sample::kBytes) {
    for (std::size_t t = 0; t < rows.frames; ++t) row[t] = Sample::value(samples + t * step);
  }
}

// The first frames of one or two channels, some at a time; returns how many. None of most formats.
template <typename Sample>
std::size_t encode_vectors(Sample, const ConstRows&, std::byte*) {
  return 0;
}

#ifdef __SSE2__
// Four codes; the conversion rounds as the mode says.
template <typename Sample>
__m128i four_of(const float* values) {
  const __m128 scaled = _mm_mul_ps(_mm_loadu_ps(values), _mm_set1_ps(Sample::kFullScale));
  const __m128 above = _mm_max_ps(scaled, _mm_set1_ps(-Sample::kFullScale));
  return _mm_cvtps_epi32(_mm_min_ps(above, _mm_set1_ps(Sample::kFullScale - 1.0f)));
}

void put(std::byte* samples, __m128i codes) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(samples), codes);
}

std::size_t encode_vectors(Int16, const ConstRows& rows, std::byte* samples) {
  const auto eight_of = [](const float* values) {
    return _mm_packs_epi32(four_of<Int16>(values), four_of<Int16>(values + 4));
  };
  const float *left = rows.data, *right = rows.data + rows.stride;
  std::size_t t = 0;
  for (; rows.channels == 1 && t + 8 <= rows.frames; t += 8)
    put(samples + 2 * t, eight_of(left + t));
  for (; rows.channels == 2 && t + 8 <= rows.frames; t += 8) {
    const __m128i a = eight_of(left + t), b = eight_of(right + t);
    put(samples + 4 * t, _mm_unpacklo_epi16(a, b));
    put(samples + 4 * t + 16, _mm_unpackhi_epi16(a, b));
  }
  return t;
}

std::size_t encode_vectors(Code24, const ConstRows& rows, std::byte* codes) {
  const float *left = rows.data, *right = rows.data + rows.stride;
  std::size_t t = 0;
  for (; rows.channels == 1 && t + 4 <= rows.frames; t += 4) {
    put(codes + 4 * t, four_of<Code24>(left + t));
  }
  for (; rows.channels == 2 && t + 4 <= rows.frames; t += 4) {
    const __m128i a = four_of<Code24>(left + t), b = four_of<Code24>(right + t);
    put(codes + 8 * t, _mm_unpacklo_epi32(a, b));
    put(codes + 8 * t + 16, _mm_unpackhi_epi32(a, b));
  }
  return t;
}
#endif

template <typename Sample>
void encode(const ConstRows& rows, std::byte* samples) {
  const std::size_t step = rows.channels * Sample::kBytes;
  const std::size_t written = encode_vectors(Sample{}, rows, samples);
  const float* row = rows.data;
  for (std::size_t c = 0; c < rows.channels; ++c, row += rows.stride, samples += Sample::kBytes) {
    for (std::size_t t = written; t < rows.frames; ++t) {
      const float above = std::max(row[t] * Sample::kFullScale, -Sample::kFullScale);
      const float clipped = std::min(above, Sample::kFullScale - 1.0f);
      Sample::put(samples + t * step, std::lrint(clipped));
    }
  }
}

}  // namespace

void decode_int16(const std::byte* samples, const Rows& rows) noexcept {
  decode<Int16>(samples, rows);
}
void decode_int24(const std::byte* samples, const Rows& rows) noexcept {
  decode<Int24>(samples, rows);
}
void decode_int32(const std::byte* samples, const Rows& rows) noexcept {
  decode<Int32>(samples, rows);
}
void decode_float(const std::byte* samples, const Rows& rows) noexcept {
  decode<Float>(samples, rows);
}

void encode_int16(const ConstRows& rows, std::byte* samples) noexcept {
  encode<Int16>(rows, samples);
}
void encode_code24(const ConstRows& rows, std::byte* codes) noexcept {
  encode<Code24>(rows, codes);
}
void encode_float(const ConstRows& rows, std::byte* samples) noexcept {
  if (rows.channels == 2) {
    const float *left = rows.data, *right = rows.data + rows.stride;
    for (std::size_t t = 0; t < rows.frames; ++t) {
      store_at(samples + 8 * t, left[t]);
      store_at(samples + 8 * t + 4, right[t]);
    }
    return;
  }
  const float* row = rows.data;
  for (std::size_t c = 0; c < rows.channels; ++c, row += rows.stride, samples += 4) {
    for (std::size_t t = 0; t < rows.frames; ++t) store_at(samples + t * 4 * rows.channels, row[t]);
  }
}

void encode_int24(const ConstRows& rows, std::byte* samples) noexcept {
  std::array<std::byte, 1 << 14> codes;
  const std::size_t most = codes.size() / Code24::kBytes / rows.channels;
  if (most == 0) return encode<Int24>(rows, samples);
  for (std::size_t t = 0; t < rows.frames; t += most) {
    const std::size_t frames = std::min(most, rows.frames - t);
    encode<Code24>({rows.data + t, rows.stride, rows.channels, frames}, codes.data());
    for (std::size_t n = 0; n < frames * rows.channels; ++n, samples += Int24::kBytes) {
      // The fourth byte is the next sample's first.
      store_at(samples, load_at<std::uint32_t>(codes.data() + Code24::kBytes * n));
    }
  }
}

float peak_of(const ConstRows& rows) noexcept {
  // Magnitudes are ordered as the integers of their bits are, NaN above all. Several at a time, for
  // one would wait for the one before.
  std::array<std::int32_t, 32> most{};
  const auto magnitude = [](float value) {
    return std::bit_cast<std::int32_t>(value) & 0x7fffffff;
  };
  const float* row = rows.data;
  for (std::size_t c = 0; c < rows.channels; ++c, row += rows.stride) {
    std::size_t t = 0;
    for (; t + most.size() <= rows.frames; t += most.size()) {
      for (std::size_t n = 0; n < most.size(); ++n) {
        most[n] = std::max(most[n], magnitude(row[t + n]));
      }
    }
    for (; t < rows.frames; ++t) most[0] = std::max(most[0], magnitude(row[t]));
  }
  return std::bit_cast<float>(*std::max_element(most.begin(), most.end()));
}

}  // namespace fxfast
