#include "engine/filter.h"

#include <algorithm>
#include <complex>
#include <cstring>
#include <numbers>

#include "base/buffers.h"

namespace fxfast {
namespace {

using Complex = std::complex<double>;

constexpr int kLevelBins[kMaxFilterLevels] = {64, 512, 4096, 32768};
static_assert(kLevelBins[0] == kFilterHeadTaps);
// A level goes on where the next could begin, as long as no more than this many partitions are
// left: a transform of the next size costs as much.
constexpr int kPartitionsLeft = 8;

struct FilterPosition {
  std::uint64_t samples;
  std::uint64_t reserved[7];
};
static_assert(sizeof(FilterPosition) == kCacheLineBytes);

std::size_t take(std::size_t& total, std::size_t floats) {
  const std::size_t offset = total;
  total = round_up(offset + floats, kCacheLineBytes / sizeof(float));
  return offset;
}

std::size_t twiddle_floats(int bins) {
  return static_cast<std::size_t>(spectrum_twiddle_floats(bins) + 2 * std::ptrdiff_t{bins});
}

// --- packing -------------------------------------------------------------------------------------

// c of every split, at 2^s - 1 + b; a block is a polynomial modulo z^n - e^(2 pi i t).
std::vector<Complex> split_twiddles(int bins) {
  const auto count = static_cast<std::size_t>(bins) - 1;
  std::vector<Complex> twiddles(count);
  std::vector<double> turns(2 * count + 1);
  turns[0] = 0.25;
  for (std::size_t i = 0; i < count; ++i) {
    twiddles[i] = std::polar(1.0, std::numbers::pi * turns[i]);
    turns[2 * i + 1] = turns[i] / 2;
    turns[2 * i + 2] = turns[i] / 2 + 0.5;
  }
  return twiddles;
}

void split_all(std::vector<Complex>& z, const std::vector<Complex>& twiddles) {
  std::size_t node = 0;
  for (std::size_t samples = z.size(); samples > 1; samples /= 2) {
    const std::size_t half = samples / 2;
    for (std::size_t first = 0; first < z.size(); first += samples, ++node) {
      for (std::size_t n = first; n < first + half; ++n) {
        const Complex t = z[n + half] * twiddles[node];
        z[n + half] = z[n] - t;
        z[n] += t;
      }
    }
  }
}

// A complex number in chunks of kChunk real, then imaginary parts.
void put(float* chunks, std::size_t n, Complex value) {
  float* at = chunks + n / kChunk * (2 * kChunk) + n % kChunk;
  at[0] = static_cast<float>(value.real());
  at[kChunk] = static_cast<float>(value.imag());
}

void pack_twiddles(const std::vector<Complex>& twiddles, int bins, float* packed) {
  const auto blocks = static_cast<std::size_t>(bins / kChunk);
  for (std::size_t i = 0; i + 1 < blocks; ++i) {
    packed[2 * i] = static_cast<float>(twiddles[i].real());
    packed[2 * i + 1] = static_cast<float>(twiddles[i].imag());
  }
  float* lanes = packed + spectrum_twiddle_floats(bins);
  for (std::size_t group = 0; group < blocks / 4; ++group, lanes += kGroupFloats) {
    for (std::size_t lane = 0; lane < kChunk; ++lane) {
      const std::size_t of_16 = blocks - 1 + group * 4 + lane / 4;
      const std::size_t of_4 = 4 * blocks - 1 + group * kChunk + lane;
      put(lanes, lane, twiddles[of_16]);
      put(lanes, kChunk + lane, twiddles[2 * of_16 + 1]);
      put(lanes, 2 * kChunk + lane, twiddles[of_4]);
      put(lanes, 3 * kChunk + lane, twiddles[2 * of_4 + 1]);
    }
  }
}

// `taps` is the newest first, from the first tap of the level on.
void pack_response(const FilterLevel& level, const std::vector<Complex>& twiddles,
                   const float* taps, std::size_t count, float* packed) {
  const auto bins = static_cast<std::size_t>(level.bins);
  const auto partitions = static_cast<std::size_t>(level.partitions);
  std::vector<Complex> z(bins);
  for (std::size_t p = 0; p < partitions; ++p) {
    const std::size_t first = p * bins, used = std::min(bins, count - first);
    std::fill(z.begin(), z.end(), 0.0);
    for (std::size_t n = 0; n < used; ++n) {
      z[n] = static_cast<double>(taps[first + n]) / static_cast<double>(bins);
    }
    split_all(z, twiddles);
    for (std::size_t n = 0; n < bins; ++n) {
      const std::size_t group = n / kGroupBins, factor = n % kGroupBins;
      const std::size_t place = 16 * (factor % 4) + 4 * (factor / 16) + factor / 4 % 4;
      put(packed + (group * partitions + p) * kGroupFloats, place, z[n]);
    }
  }
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

  // Spectra stand in a ring, the newest of a level before the older ones.
  static int newest(const FilterLevel& level, std::uint64_t block) noexcept {
    const auto partitions = static_cast<std::uint64_t>(level.partitions);
    return static_cast<int>(partitions - 1 - block % partitions);
  }

  // The group of the block that `begin` lies in that is due between `begin` and the next group.
  void sum_group(const FilterLevel& level, std::uint64_t begin) const noexcept {
    const auto bins = static_cast<std::uint64_t>(level.bins);
    const auto group = static_cast<std::size_t>(begin % bins / kGroupBins);
    const std::size_t of_group = group * static_cast<std::size_t>(level.partitions) * kGroupFloats;
    kernels_.spectrum_sum({task_.state + level.spectra + of_group,
                           task_.packed + level.response + of_group,
                           task_.state + level.sums + group * kGroupFloats, level.partitions,
                           newest(level, begin / bins)});
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
    block.work = task_.state + layout_.work;
    block.output = task_.state + level.pending;
    block.bins = level.bins;
    block.partitions = level.partitions;
    block.newest = newest(level, position / bins - 1);
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
    level.twiddles = take(packed_floats, twiddle_floats(level.bins));
    level.response = take(packed_floats, spectra_floats);
    level.pending = take(state_floats, bins + kMaxVectorFloats);
    level.sums = take(state_floats, 2 * bins);
    level.spectra = take(state_floats, spectra_floats);
  }
  work = take(state_floats, 2 * grid);
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
    const std::vector<Complex> twiddles = split_twiddles(level.bins);
    pack_twiddles(twiddles, level.bins, packed + level.twiddles);
    const auto first = static_cast<std::size_t>(level.bins);
    pack_response(level, twiddles, taps.data() + first, taps.size() - first,
                  packed + level.response);
  }
}

void run_filter(const KernelTable& kernels, const FilterTask& task) noexcept {
  FilterRun(kernels, task).run();
}

}  // namespace fxfast
