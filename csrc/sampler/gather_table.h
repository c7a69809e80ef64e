// The two inner loops of the sampler, once per instruction set: the rounds of the keyed
// permutation and the copying of rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

// An alternating Feistel network on low_bits + high_bits bits, each at most 31.
struct FeistelKeys {
  static constexpr int kRounds = 6;
  std::uint32_t round[kRounds];
  int low_bits, high_bits;
};

// Full scale of int16 audio is 1.0; the product with this power of two is exact.
constexpr float kInt16Scale = 1.0f / 32768.0f;

struct GatherTable {
  const char* name;  // as in KernelTable

  // Sends each of `count` values through the network, in place.
  void (*feistel)(const FeistelKeys& keys, std::uint64_t* values, std::size_t count);

  // out[r * out_stride + i] = sample i of rows[r], i < length; every row is that long.
  void (*gather_float)(const void* const* rows, std::size_t count, std::size_t length, float* out,
                       std::size_t out_stride);
  // The same from int16, times kInt16Scale.
  void (*gather_int16)(const void* const* rows, std::size_t count, std::size_t length, float* out,
                       std::size_t out_stride);
};

const GatherTable& reference_gather();
const GatherTable& portable_gather();
#ifdef FXFAST_X86_64
const GatherTable& avx2_gather();
const GatherTable& avx512_gather();
#endif

// The table for the kernels of that name (a KernelTable's); "" as in choose_kernels.
const GatherTable& choose_gather(const char* name);

}  // namespace fxfast
