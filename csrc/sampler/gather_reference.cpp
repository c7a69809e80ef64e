// The reference: plain loops, the truth that the other tables are tested against.
#include <cstdint>
#include <string>

#include "kernels/choose_isa.h"
#include "sampler/gather_table.h"

namespace fxfast {
namespace {

std::uint32_t mix(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

void feistel(const FeistelKeys& keys, std::uint64_t* values, std::size_t count) {
  const std::uint64_t low_mask = (std::uint64_t{1} << keys.low_bits) - 1;
  const std::uint64_t high_mask = (std::uint64_t{1} << keys.high_bits) - 1;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t low = values[i] & low_mask, high = values[i] >> keys.low_bits;
    for (int r = 0; r < FeistelKeys::kRounds; r += 2) {
      high ^= mix(static_cast<std::uint32_t>(low) + keys.round[r]) & high_mask;
      low ^= mix(static_cast<std::uint32_t>(high) + keys.round[r + 1]) & low_mask;
    }
    values[i] = high << keys.low_bits | low;
  }
}

template <typename Sample>
void gather(const void* const* rows, std::size_t count, std::size_t length, float scale, float* out,
            std::size_t out_stride) {
  for (std::size_t r = 0; r < count; ++r) {
    const auto* row = static_cast<const Sample*>(rows[r]);
    for (std::size_t i = 0; i < length; ++i) {
      out[r * out_stride + i] = static_cast<float>(row[i]) * scale;
    }
  }
}

void gather_float(const void* const* rows, std::size_t count, std::size_t length, float* out,
                  std::size_t out_stride) {
  gather<float>(rows, count, length, 1.0f, out, out_stride);
}

void gather_int16(const void* const* rows, std::size_t count, std::size_t length, float* out,
                  std::size_t out_stride) {
  gather<std::int16_t>(rows, count, length, kInt16Scale, out, out_stride);
}

}  // namespace

const GatherTable& reference_gather() {
  static constexpr GatherTable table = {"reference", feistel, gather_float, gather_int16};
  return table;
}

const GatherTable& choose_gather(const char* name) {
  const std::string chosen = choose_kernels(name).name;
  const GatherTable* tables[] = {
#ifdef FXFAST_X86_64
      &avx512_gather(), &avx2_gather(),
#endif
      &portable_gather()};
  for (const GatherTable* table : tables) {
    if (chosen == table->name) return *table;
  }
  return reference_gather();
}

}  // namespace fxfast
