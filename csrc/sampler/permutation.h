// A permutation of 0 .. n-1 that is a function of a key, so that nobody has to store it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampler/gather_table.h"

namespace fxfast {

// The permutation of a seed and an epoch. From kTableSize on a Feistel network of six rounds on
// the fewest bits that hold n - 1, walked until the value is below n (Black and Rogaway, Ciphers
// with arbitrary finite domains, 2002); below, where so few bits mix badly, a shuffled table.
//
// The values are part of the interface and never change: tests hold them.
class KeyedPermutation {
 public:
  static constexpr std::uint64_t kTableSize = 4096;
  static constexpr int kMaxBits = 62;

  KeyedPermutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch);

  std::uint64_t size() const { return n_; }
  std::uint64_t at(std::uint64_t position) const;
  // Replaces each of `count` positions below n by its value. `scratch` holds twice `count`.
  void map(const GatherTable& table, std::uint64_t* values, std::size_t count,
           std::uint64_t* scratch) const;

 private:
  void walk(const GatherTable& table, std::uint64_t* values, std::size_t count,
            std::uint64_t* scratch) const;

  std::uint64_t n_;
  FeistelKeys keys_{};
  std::vector<std::uint16_t> table_;
};

// Word `position` of an endless random sequence: Philox4x32-10 (Salmon et al., Parallel random
// numbers: as easy as 1, 2, 3, 2011) with the seed as key.
std::uint64_t random_word(std::uint64_t seed, std::uint64_t epoch, std::uint64_t position);

}  // namespace fxfast
