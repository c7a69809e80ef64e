// Looks for NaN and infinity in audio at the door.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fxfast {

// Index of the first value that is NaN or infinite, or -1.
inline std::ptrdiff_t first_non_finite(const float* values, std::size_t count) {
  const auto is_bad = [&](std::size_t i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    return static_cast<std::uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
  };
  // Whole chunks of one length without a branch, which the compiler makes a vector loop.
  constexpr std::size_t kChunk = 1024;
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const std::size_t end = begin + kChunk < count ? begin + kChunk : count;
    std::uint32_t bad = 0;
    if (end - begin == kChunk) {
      for (std::size_t i = 0; i < kChunk; ++i) bad |= is_bad(begin + i);
      if (bad == 0) continue;
    }
    for (std::size_t i = begin; i < end; ++i) {
      if (is_bad(i) != 0) return static_cast<std::ptrdiff_t>(i);
    }
  }
  return -1;
}

}  // namespace fxfast
