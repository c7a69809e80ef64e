// Long FIR filters of one channel without latency: the first taps directly, the others by blocks
// in the frequency domain (Gardner 1995), each level in longer blocks than the one before.
//
// A level of blocks of B samples has the taps from B on: when the stream, counted from its start,
// has a whole number of such blocks, what those taps make of them is the level's share of the next
// B outputs. So every sum is made at a fixed place of the stream, whatever the split into calls.
// Products with spectra of earlier blocks are made one group of bins for each kGroupBins samples;
// at the end of a block only one transform there and one back are left.
//
// Packed: the first taps, the newest first | per level: twiddles, response.
// State: FilterPosition | the newest input | per level: pending output, sums, spectra.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

namespace fxfast {

// The taps of a filter that are summed directly, from samples of its line; the past that the
// others read it keeps itself (filter.h). Up to kMaxDirectTaps a direct sum of all costs least.
constexpr int kFilterHeadTaps = kGroupBins;
constexpr int kMaxDirectTaps = 2 * kFilterHeadTaps;
constexpr std::int64_t direct_taps(std::int64_t taps) {
  if (taps > kMaxDirectTaps) return kFilterHeadTaps;
  return (taps + kGroupBins - 1) / kGroupBins * kGroupBins;
}

constexpr int kMaxFilterLevels = 4;

struct FilterLevel {
  int bins = 0;  // and samples of a block
  int partitions = 0;
  std::size_t twiddles = 0, response = 0;          // in the packed weights, floats
  std::size_t pending = 0, sums = 0, spectra = 0;  // in the state, floats
};

// What follows from the number of taps. Up to kMaxDirectTaps there is no level and no state.
struct FilterLayout {
  explicit FilterLayout(std::int64_t taps) noexcept;

  // Bits are the same for streams that start a whole number of these apart.
  int grid_samples() const { return level_count == 0 ? 1 : levels[level_count - 1].bins; }
  // The oldest sample that any spectrum of a sum holds.
  std::int64_t reach_samples() const;
  std::int64_t multiply_adds_per_sample() const;

  FilterLevel levels[kMaxFilterLevels];
  int level_count = 0;
  std::size_t packed_floats = 0;
  std::size_t state_floats = 0;
  std::size_t work_floats = 0;
  std::size_t input = 0;  // in the state, floats
};

// Writes packed_floats floats from `weight`, the oldest tap first.
void pack_filter(const std::vector<float>& weight, float* packed);

// Offline: whole transforms of much more than the taps, so that most of what comes back counts.
// Packed: twiddles, response. State, with several partitions: FilterPosition | spectra.
struct OfflineFilterLayout {
  explicit OfflineFilterLayout(std::int64_t taps) noexcept;

  int bins = 0;
  int partitions = 0;
  int step = 0;  // samples that one transform makes; 0: a filter too short to gain from it
  std::size_t twiddles = 0, response = 0, packed_floats = 0;
  std::size_t spectra = 0, state_floats = 0, work_floats = 0;

  // What it reads of its line before the samples of a step.
  int history_samples() const { return 2 * bins - step; }
  std::int64_t reach_samples() const { return std::int64_t{2} * bins * partitions; }
};
// Of the line of a filter of either kind.
std::uint32_t filter_history_samples(std::int64_t taps, bool is_offline) noexcept;
void pack_offline_filter(const std::vector<float>& weight, float* packed);

struct FilterTask {
  const float* input;  // after direct_taps(taps) - 1 samples of history
  float* output;
  const float* packed;
  const float* bias;
  float* state;  // zero before the first sample
  float* work;   // work_floats of no meaning
  std::int64_t taps;
  int samples;
};
void run_filter(const KernelTable& kernels, const FilterTask& task) noexcept;
// `samples` is the layout's step, and its history is before the input.
void run_offline_filter(const KernelTable& kernels, const FilterTask& task) noexcept;

}  // namespace fxfast
