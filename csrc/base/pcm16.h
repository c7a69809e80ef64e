// Interleaved 16-bit samples to rows of float32, a row for each channel, and back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

// value / 2^15 of `frames` samples of each channel; rows are `stride` floats apart.
void rows_from_int16(const std::int16_t* samples, std::size_t channels, std::size_t frames,
                     float* rows, std::ptrdiff_t stride) noexcept;

// value * 2^15, rounded to the nearest, ties to even, and clipped to 16 bits. NaN has no meaning.
void int16_from_rows(const float* rows, std::ptrdiff_t stride, std::size_t channels,
                     std::size_t frames, std::int16_t* samples) noexcept;

}  // namespace fxfast
