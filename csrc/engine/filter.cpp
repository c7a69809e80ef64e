#include "engine/filter.h"

#include <algorithm>
#include <cstring>

#include "base/buffers.h"
#include "kernels/pack_spectrum.h"

namespace fxfast {
namespace {

constexpr int kLevelBins[kMaxFilterLevels] = {64, 512, 4096, 32768};
static_assert(kLevelBins[0] == kFilterHeadTaps);
// A level goes on where the next could begin, as long as no more than this many partitions are
// left: a transform of the next size costs as much.
constexpr int kPartitionsLeft = 8;

struct FilterPosition {
  std::uint64_t samples;  // offline: steps
  std::uint64_t reserved[7];
};
static_assert(sizeof(FilterPosition) == kCacheLineBytes);

// Below, the rounding of transforms would count beside that of a plain float32 sum.
constexpr std::int64_t kMinOfflineTaps = 4096;
// What a transform works on is 16 bytes a bin, and its tables are as much again: up to here all of
// it stays in caches that are not shared by many; beyond the second length it pays no more.
constexpr int kCachedOfflineBins = 1 << 17;
constexpr int kMaxOfflineBins = 1 << 18;

std::size_t take(std::size_t& total, std::size_t floats) {
  const std::size_t offset = total;
  total = round_up(offset + floats, kCacheLineBytes / sizeof(float));
  return offset;
}

// Spectra stand in a ring, the newest before the older ones.
int newest_of(int partitions, std::uint64_t block) noexcept {
  const auto count = static_cast<std::uint64_t>(partitions);
  return static_cast<int>(count - 1 - block % count);
}

// --- running -------------------------------------------------------------------------------------

class FilterRun {
 public:
  FilterRun(const KernelTable& kernels, const FilterTask& task) noexcept
      : kernels_(kernels), task_(task), layout_(task.taps) {}

  void run() noexcept {
    if (layout_.level_count == 0) return run_head(0, task_.samples, nullptr);
    auto* position = reinterpret_cast<FilterPosition*>(task_.state);
    for (int done = 0; done < task_.samples;) {
      const auto in_block = static_cast<int>(position->samples % kFilterHeadTaps);
      const int n = std::min(kFilterHeadTaps - in_block, task_.samples - done);
      const auto in_ring = static_cast<std::size_t>(position->samples % ring_samples());
      std::memcpy(task_.state + layout_.input + in_ring, task_.input + done,
                  static_cast<std::size_t>(n) * sizeof(float));
      run_head(done, n, task_.state + layout_.levels[0].pending + in_block);
      position->samples += static_cast<std::uint64_t>(n);
      done += n;
      if (in_block + n == kFilterHeadTaps) end_block(position->samples);
    }
  }

 private:
  std::uint64_t ring_samples() const noexcept {
    return 2 * static_cast<std::uint64_t>(layout_.grid_samples());
  }

  void run_head(int first, int samples, const float* pending) const noexcept {
    kernels_.fir({task_.input + first, task_.output + first, pending, task_.packed, task_.bias,
                  static_cast<int>(direct_taps(task_.taps)), samples});
  }

  // What is due after `position` samples, a whole number of the shortest blocks. The longest
  // blocks first: each level adds its share to what the level of longer blocks has for it.
  void end_block(std::uint64_t position) const noexcept {
    for (int l = layout_.level_count - 1; l >= 0; --l) {
      const FilterLevel& level = layout_.levels[l];
      const auto bins = static_cast<std::uint64_t>(level.bins);
      sum_group(level, position - kGroupBins);
      if (position % bins == 0) transform(l, position);
    }
  }

  // The group of the block that `begin` lies in that is due between `begin` and the next group.
  void sum_group(const FilterLevel& level, std::uint64_t begin) const noexcept {
    const auto bins = static_cast<std::uint64_t>(level.bins);
    const auto group = static_cast<std::size_t>(begin % bins / kGroupBins);
    const std::size_t of_group = group * static_cast<std::size_t>(level.partitions) * kGroupFloats;
    kernels_.spectrum_sum({task_.state + level.spectra + of_group,
                           task_.packed + level.response + of_group,
                           task_.state + level.sums + group * kGroupFloats, level.partitions,
                           newest_of(level.partitions, begin / bins)});
  }

  void transform(int l, std::uint64_t position) const noexcept {
    const FilterLevel& level = layout_.levels[l];
    const auto bins = static_cast<std::uint64_t>(level.bins);
    const float* input = task_.state + layout_.input;
    SpectrumBlockTask block{};
    block.older = input + (position + ring_samples() - 2 * bins) % ring_samples();
    block.newer = input + (position + ring_samples() - bins) % ring_samples();
    block.twiddles = task_.packed + level.twiddles;
    block.response = task_.packed + level.response;
    block.sums = task_.state + level.sums;
    if (l + 1 < layout_.level_count) {
      const FilterLevel& longer = layout_.levels[l + 1];
      block.add = task_.state + longer.pending + position % static_cast<std::uint64_t>(longer.bins);
    }
    block.spectra = task_.state + level.spectra;
    block.work = task_.work;
    block.output = task_.state + level.pending;
    block.bins = level.bins;
    block.partitions = level.partitions;
    block.newest = newest_of(level.partitions, position / bins - 1);
    kernels_.spectrum_block(block);
  }

  const KernelTable& kernels_;
  const FilterTask& task_;
  const FilterLayout layout_;
};

}  // namespace

FilterLayout::FilterLayout(std::int64_t taps) noexcept {
  take(packed_floats, static_cast<std::size_t>(direct_taps(taps)));
  if (taps <= kMaxDirectTaps) return;
  state_floats = sizeof(FilterPosition) / sizeof(float);
  std::int64_t first = kFilterHeadTaps;
  while (first < taps) {
    FilterLevel& level = levels[level_count];
    level.bins = kLevelBins[level_count];
    const std::int64_t wanted = (taps - first + level.bins - 1) / level.bins;
    ++level_count;
    const int next = level_count < kMaxFilterLevels ? kLevelBins[level_count] : 0;
    const std::int64_t before_next = next == 0 ? wanted : next / level.bins - 1;
    const bool goes_on = wanted > before_next + kPartitionsLeft;
    level.partitions = static_cast<int>(goes_on ? before_next : wanted);
    first += std::int64_t{level.partitions} * level.bins;
  }
  const auto grid = static_cast<std::size_t>(grid_samples());
  input = take(state_floats, 2 * grid);
  for (int l = 0; l < level_count; ++l) {
    FilterLevel& level = levels[l];
    const auto bins = static_cast<std::size_t>(level.bins);
    const auto spectra_floats = 2 * bins * static_cast<std::size_t>(level.partitions);
    level.twiddles = take(packed_floats, twiddle_floats(bins));
    level.response = take(packed_floats, spectra_floats);
    level.pending = take(state_floats, bins + kMaxVectorFloats);
    level.sums = take(state_floats, 2 * bins);
    level.spectra = take(state_floats, spectra_floats);
  }
  work_floats = 2 * grid;
}

std::int64_t FilterLayout::reach_samples() const {
  if (level_count == 0) return kMaxDirectTaps;
  const FilterLevel& last = levels[level_count - 1];
  // A level's first tap is at its block length, and a spectrum holds two blocks.
  return std::int64_t{last.bins} * (last.partitions + 3);
}

std::int64_t FilterLayout::multiply_adds_per_sample() const {
  std::int64_t total = level_count == 0 ? kMaxDirectTaps : kFilterHeadTaps;
  for (int l = 0; l < level_count; ++l) {
    const FilterLevel& level = levels[l];
    int splits = 0;
    for (int n = level.bins; n > 1; n /= 2) ++splits;
    total += 4 * std::int64_t{level.partitions} + 8 * splits;
  }
  return total;
}

void pack_filter(const std::vector<float>& weight, float* packed) {
  const FilterLayout layout(static_cast<std::int64_t>(weight.size()));
  const std::vector<float> taps(weight.rbegin(), weight.rend());
  const auto direct = static_cast<std::size_t>(direct_taps(static_cast<std::int64_t>(taps.size())));
  std::copy_n(taps.begin(), std::min(direct, taps.size()), packed);
  for (int l = 0; l < layout.level_count; ++l) {
    const FilterLevel& level = layout.levels[l];
    const auto bins = static_cast<std::size_t>(level.bins);
    pack_twiddles(bins, packed + level.twiddles);
    pack_response(bins, static_cast<std::size_t>(level.partitions), taps.data() + bins,
                  taps.size() - bins, packed + level.response);
  }
}

OfflineFilterLayout::OfflineFilterLayout(std::int64_t taps) noexcept {
  if (taps < kMinOfflineTaps) return;
  // The longer a transform beside the taps, the more of it counts.
  bins = static_cast<int>(kMinOfflineTaps);
  while (bins < kCachedOfflineBins && bins < 4 * taps) bins *= 2;
  while (bins < kMaxOfflineBins && 3 * std::int64_t{bins} < 4 * taps) bins *= 2;
  partitions = static_cast<int>((taps + bins - 1) / bins);
  // Steps of small prime factors, for the grid is a common multiple of all.
  const int quarter = bins / 4;
  step = bins;
  while (partitions == 1 && 2 * bins - step - quarter >= taps) step += quarter;
  const auto floats = static_cast<std::size_t>(bins) * 2;
  const std::size_t spectra_floats = floats * static_cast<std::size_t>(partitions);
  twiddles = take(packed_floats, twiddle_floats(static_cast<std::size_t>(bins)));
  response = take(packed_floats, spectra_floats);
  if (partitions > 1) {
    state_floats = sizeof(FilterPosition) / sizeof(float);
    spectra = take(state_floats, spectra_floats);
  }
  work_floats = floats + kSpectrumScratchFloats;
}

std::uint32_t filter_history_samples(std::int64_t taps, bool is_offline) noexcept {
  return static_cast<std::uint32_t>(is_offline ? OfflineFilterLayout(taps).history_samples()
                                               : direct_taps(taps) - 1);
}

void pack_offline_filter(const std::vector<float>& weight, float* packed) {
  const OfflineFilterLayout layout(static_cast<std::int64_t>(weight.size()));
  const std::vector<float> taps(weight.rbegin(), weight.rend());
  const auto bins = static_cast<std::size_t>(layout.bins);
  pack_twiddles(bins, packed + layout.twiddles);
  pack_response(bins, static_cast<std::size_t>(layout.partitions), taps.data(), taps.size(),
                packed + layout.response);
}

void run_offline_filter(const KernelTable& kernels, const FilterTask& task) noexcept {
  const OfflineFilterLayout layout(task.taps);
  SpectrumFilterTask filter{};
  filter.input = task.input - layout.history_samples();
  filter.output = task.output;
  filter.twiddles = task.packed + layout.twiddles;
  filter.response = task.packed + layout.response;
  filter.bias = task.bias;
  filter.spectra = task.state + layout.spectra;
  filter.work = task.work;
  filter.bins = layout.bins;
  filter.partitions = layout.partitions;
  filter.step = layout.step;
  if (layout.partitions > 1) {
    auto* position = reinterpret_cast<FilterPosition*>(task.state);
    filter.newest = newest_of(layout.partitions, position->samples);
    ++position->samples;
  }
  kernels.spectrum_filter(filter);
}

void run_filter(const KernelTable& kernels, const FilterTask& task) noexcept {
  FilterRun(kernels, task).run();
}

}  // namespace fxfast
