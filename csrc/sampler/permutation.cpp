#include "sampler/permutation.h"

#include <bit>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"

namespace fxfast {
namespace {

// SplitMix64 from a state that seed and epoch give.
class KeyStream {
 public:
  KeyStream(std::uint64_t seed, std::uint64_t epoch)
      : state_(seed * 0x9E3779B97F4A7C15u + epoch * 0xD1B54A32D192ED03u + 1) {}

  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

std::vector<std::uint16_t> shuffled(std::uint64_t n, KeyStream stream) {
  std::vector<std::uint16_t> table(n);
  std::iota(table.begin(), table.end(), std::uint16_t{0});
  for (std::uint64_t left = n; left > 1; --left) {
    // The high 32 bits times the count: at most 4096 / 2^32 from even.
    const std::uint64_t chosen = (stream.next() >> 32) * left >> 32;
    std::swap(table[left - 1], table[chosen]);
  }
  return table;
}

}  // namespace

KeyedPermutation::KeyedPermutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch)
    : n_(n) {
  KeyStream stream(seed, epoch);
  if (n < kTableSize) {
    table_ = shuffled(n, stream);
    return;
  }
  const int bits = std::bit_width(n - 1);
  if (bits > kMaxBits) {
    throw InputError("permutation: expected at most 2^62 values, got " + std::to_string(n));
  }
  keys_.high_bits = bits / 2;
  keys_.low_bits = bits - keys_.high_bits;
  for (std::uint32_t& key : keys_.round) key = static_cast<std::uint32_t>(stream.next());
}

std::uint64_t KeyedPermutation::at(std::uint64_t position) const {
  std::uint64_t scratch[2];
  map(reference_gather(), &position, 1, scratch);
  return position;
}

void KeyedPermutation::map(const GatherTable& table, std::uint64_t* values, std::size_t count,
                           std::uint64_t* scratch) const {
  if (!table_.empty()) {
    for (std::size_t i = 0; i < count; ++i) values[i] = table_[values[i]];
    return;
  }
  table.feistel(keys_, values, count);
  walk(table, values, count, scratch);
}

// The values at n or above go through the network again, packed side by side with their places,
// until none is left.
void KeyedPermutation::walk(const GatherTable& table, std::uint64_t* values, std::size_t count,
                            std::uint64_t* scratch) const {
  std::uint64_t *outside = scratch, *place = scratch + count;
  std::size_t left = 0;
  for (std::size_t i = 0; i < count; ++i) {
    outside[left] = values[i];
    place[left] = i;
    left += static_cast<std::size_t>(values[i] >= n_);
  }
  while (left > 0) {
    table.feistel(keys_, outside, left);
    std::size_t still = 0;
    for (std::size_t i = 0; i < left; ++i) {
      const std::uint64_t value = outside[i], where = place[i];
      values[where] = value;
      outside[still] = value;
      place[still] = where;
      still += static_cast<std::size_t>(value >= n_);
    }
    left = still;
  }
}

std::uint64_t random_word(std::uint64_t seed, std::uint64_t epoch, std::uint64_t position) {
  std::uint32_t counter[4] = {
      static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
      static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(epoch >> 32)};
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter[0] = static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<std::uint32_t>(product1);
    counter[2] = static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return std::uint64_t{counter[1]} << 32 | counter[0];
}

}  // namespace fxfast
