// A checksum of 64 bits at the speed of memory: whether bytes on the disk are those that were
// written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace fxfast {

// The same for any split of the bytes into updates. Each word is added to the sum beside the one
// that gets its product, so a change within one word always shows; keys that change from stripe to
// stripe make the order count. The sums are those of XXH3 (Y. Collet, xxHash, doc/xxhash_spec.md).
// The value is compared within one process: it is no format.
class Checksum {
 public:
  void update(const std::byte* data, std::size_t count) {
    total_ += count;
    if (held_ > 0) {
      const std::size_t taken = count < kStripe - held_ ? count : kStripe - held_;
      std::memcpy(tail_.data() + held_, data, taken);
      held_ += taken;
      data += taken;
      count -= taken;
      if (held_ < kStripe) return;
      add(tail_.data(), 1);
      held_ = 0;
    }
    add(data, count / kStripe);
    held_ = count % kStripe;
    if (held_ > 0) std::memcpy(tail_.data(), data + count - held_, held_);
  }

  std::uint64_t value() const {
    Checksum last = *this;
    std::memset(last.tail_.data() + held_, 0, kStripe - held_);
    last.add(last.tail_.data(), 1);
    std::uint64_t mixed = total_ * kOdd;
    for (const std::uint64_t sum : last.sums_) {
      mixed = (mixed ^ sum ^ (sum >> 29)) * kOdd;
      mixed ^= mixed >> 32;
    }
    return mixed;
  }

 private:
  static constexpr std::size_t kWords = 8, kStripe = 8 * kWords;
  static constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;

  using Words = std::uint64_t __attribute__((vector_size(16)));
  using Halves = std::uint32_t __attribute__((vector_size(16)));

  static Words product(Words x) {
#ifdef __SSE2__
    return reinterpret_cast<Words>(
        _mm_mul_epu32(reinterpret_cast<__m128i>(x), reinterpret_cast<__m128i>(x >> 32)));
#else
    return (x & 0xffffffffu) * (x >> 32);
#endif
  }

  void add(const std::byte* data, std::size_t stripes) {
    Words sums[4], keys[4];
    std::memcpy(sums, sums_.data(), kStripe);
    std::memcpy(keys, keys_.data(), kStripe);
    for (std::size_t n = 0; n < stripes; ++n) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Words words;
        std::memcpy(&words, data + n * kStripe + 16 * i, 16);
        sums[i] += product(words ^ keys[i]) + __builtin_shuffle(words, Words{1, 0});
        keys[i] += kOdd;
      }
    }
    std::memcpy(sums_.data(), sums, kStripe);
    std::memcpy(keys_.data(), keys, kStripe);
  }

  std::array<std::uint64_t, kWords> sums_{};
  std::array<std::uint64_t, kWords> keys_{1 * kOdd,  3 * kOdd,  5 * kOdd,  7 * kOdd,
                                          11 * kOdd, 13 * kOdd, 17 * kOdd, 19 * kOdd};
  std::array<std::byte, kStripe> tail_{};
  std::size_t held_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace fxfast
