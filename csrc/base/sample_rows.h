// Interleaved samples of files to rows of float32, a row for each channel, and back. Little-endian
// machines only: samples stand in memory as in files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

// Rows of `frames` values each, `stride` floats apart.
template <typename Value>
struct SampleRows {
  Value* data;
  std::ptrdiff_t stride;
  std::size_t channels, frames;
};
using Rows = SampleRows<float>;
using ConstRows = SampleRows<const float>;

// Integers of n bits stand for value / 2^(n-1). Those of three bytes are read and written four
// bytes at a time: so many bytes behind the last sample have to be there.
inline constexpr std::size_t kSlackBytes = 1;
void decode_int16(const std::byte* samples, const Rows& rows) noexcept;
void decode_int24(const std::byte* samples, const Rows& rows) noexcept;
void decode_int32(const std::byte* samples, const Rows& rows) noexcept;
void decode_float(const std::byte* samples, const Rows& rows) noexcept;

// Rounded to the nearest, ties to even, and clipped; NaN has no meaning. Codes of 24 bits stand in
// the lower bits of 32.
void encode_int16(const ConstRows& rows, std::byte* samples) noexcept;
void encode_code24(const ConstRows& rows, std::byte* codes) noexcept;
void encode_int24(const ConstRows& rows, std::byte* samples) noexcept;
void encode_float(const ConstRows& rows, std::byte* samples) noexcept;

// The largest magnitude, 0 of no samples; infinite or NaN if a sample is.
float peak_of(const ConstRows& rows) noexcept;

}  // namespace fxfast
