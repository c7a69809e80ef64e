// Long filters in the frequency domain (kernel_table.h), compiled per instruction set right after
// spectrum_body.inl and under the same rules.

namespace FXFAST_ISA_NAMESPACE {

// --- whole transforms ----------------------------------------------------------------------------

// How many splits passes do before groups, and in how large steps.
static FXFAST_INLINE int pass_splits(int bins) {
  return __builtin_ctz((unsigned)bins / kGroupBins) + (kWholeGroups ? 0 : 2);
}
constexpr int kMaxSplits = FXFAST_VECTOR_REGISTERS >= 32 ? 3 : 2;

// Passes of the most splits last, so that a pass of fewer comes where blocks are long.
static FXFAST_INLINE int first_splits(int splits) {
  const int rest = splits % kMaxSplits;
  return rest == 0 ? kMaxSplits : rest;
}

template <typename Source>
static FXFAST_INLINE void first_pass(const Source& source, float* work, const float* twiddles,
                                     int bins, int splits) {
  if (splits == 1) return forward_pass<1>(source, work, twiddles, bins, 0, 0, 1);
  if (splits == 2) return forward_pass<2>(source, work, twiddles, bins, 0, 0, 1);
  if constexpr (kMaxSplits == 3) forward_pass<3>(source, work, twiddles, bins, 0, 0, 1);
}

template <typename Sink>
static FXFAST_INLINE void last_pass(float* work, const Sink& sink, const float* twiddles, int bins,
                                    int splits) {
  if (splits == 1) return inverse_pass<1>(work, sink, twiddles, bins, 0, 0, 1);
  if (splits == 2) return inverse_pass<2>(work, sink, twiddles, bins, 0, 0, 1);
  if constexpr (kMaxSplits == 3) inverse_pass<3>(work, sink, twiddles, bins, 0, 0, 1);
}

// Blocks up to here stay in the first-level cache.
constexpr int kNearBins = 4096;

// From blocks `begin` to `end` of those that `splits` splits have left, to their groups, for which
// `groups(first, end)` does all that is to do, and back.
template <typename Groups>
void transform_inside(float* work, const float* twiddles, int bins, int splits, int begin, int end,
                      const Groups& groups) {
  const Chunks chunks{work};
  const std::ptrdiff_t samples = bins >> splits;  // of a block
  if ((end - begin) * samples > kNearBins) {
    for (int b = begin; b < end; ++b) {
      const int first = b << kMaxSplits;
      if (samples <= kNearBins) {
        transform_inside(work, twiddles, bins, splits, b, b + 1, groups);
        continue;
      }
      forward_pass<kMaxSplits>(chunks, work, twiddles, bins, splits, b, b + 1);
      transform_inside(work, twiddles, bins, splits + kMaxSplits, first, first + (1 << kMaxSplits),
                       groups);
      inverse_pass<kMaxSplits>(work, chunks, twiddles, bins, splits, b, b + 1);
    }
    return;
  }
  const int all = pass_splits(bins);
  for (int done = splits; done < all; done += kMaxSplits) {
    const int more = done - splits;
    forward_pass<kMaxSplits>(chunks, work, twiddles, bins, done, begin << more, end << more);
  }
  groups(begin * samples / kGroupBins, end * samples / kGroupBins);
  for (int done = all; done > splits;) {
    done -= kMaxSplits;
    const int more = done - splits;
    inverse_pass<kMaxSplits>(work, chunks, twiddles, bins, done, begin << more, end << more);
  }
}

template <typename Source, typename Sink, typename Groups>
static FXFAST_INLINE void transform(const Source& source, const Sink& sink, float* work,
                                    const float* twiddles, int bins, const Groups& groups) {
  const int first = first_splits(pass_splits(bins));
  first_pass(source, work, twiddles, bins, first);
  transform_inside(work, twiddles, bins, first, 0, 1 << first, groups);
  last_pass(work, sink, twiddles, bins, first);
}

// --- products ------------------------------------------------------------------------------------

// Partitions from kFirst on, `at` and `step` columns on of one group. Sums of the four real
// products apart, so that twice as many chains hide the latency.
template <int kFirst, int kWidth>
static FXFAST_INLINE void sum_columns(const SpectrumSumTask& task, std::ptrdiff_t at,
                                      std::ptrdiff_t step) {
  Vec rr[kWidth] = {}, ii[kWidth] = {}, ri[kWidth] = {}, ir[kWidth] = {};
  const float* begin = task.spectra + at;
  const float* end = begin + (std::ptrdiff_t)task.partitions * kGroupFloats;
  const float* x = begin + (std::ptrdiff_t)task.newest * kGroupFloats;
  const float* h = task.response + at + kFirst * kGroupFloats;
  for (int p = kFirst; p < task.partitions; ++p) {
    if (p > 0) x = x + kGroupFloats == end ? begin : x + kGroupFloats;
#pragma GCC unroll 4
    for (int n = 0; n < kWidth; ++n) {
      const Vec xr = load(x + n * step), xi = load(x + n * step + kChunk);
      const Vec hr = load(h + n * step), hi = load(h + n * step + kChunk);
      rr[n] += xr * hr;
      ii[n] += xi * hi;
      ri[n] += xr * hi;
      ir[n] += xi * hr;
    }
    h += kGroupFloats;
  }
#pragma GCC unroll 4
  for (int n = 0; n < kWidth; ++n) {
    store(task.sum + at + n * step, rr[n] - ii[n]);
    store(task.sum + at + n * step + kChunk, ri[n] + ir[n]);
  }
}

template <int kFirst>
static FXFAST_INLINE void sum_group(const SpectrumSumTask& task) {
  if constexpr (kWholeGroups) {
    sum_columns<kFirst, 4>(task, 0, 2 * kChunk);
  } else {
    for (int n = 0; n < kChunk; n += kVec) {
      sum_columns<kFirst, 2>(task, n, 2 * kChunk);
      sum_columns<kFirst, 2>(task, n + 4 * kChunk, 2 * kChunk);
    }
  }
}

void spectrum_sum(const SpectrumSumTask& task) noexcept { sum_group<1>(task); }

// --- groups: steps over several, for each is a chain of dependent instructions
// --------------------

// Not so many that they leave the first-level cache.
constexpr std::ptrdiff_t kGroupsTogether = 8;
static_assert(2 * kGroupsTogether * kGroupFloats <= kSpectrumScratchFloats);

static FXFAST_INLINE std::ptrdiff_t together(std::ptrdiff_t first, std::ptrdiff_t end) {
  return first + kGroupsTogether < end ? first + kGroupsTogether : end;
}

template <typename Source, typename Sink>
struct BlockGroups {
  const SpectrumBlockTask& task;
  Source source;
  Sink sink;

  __attribute__((noinline)) void operator()(std::ptrdiff_t begin, std::ptrdiff_t end) const {
    const GroupTwiddles twiddles = group_twiddles(task.twiddles, task.bins);
    const std::ptrdiff_t stride = (std::ptrdiff_t)task.partitions * kGroupFloats;
    float* spectra = task.spectra + (std::ptrdiff_t)task.newest * kGroupFloats;
    const float* response = task.response;
    float* sums = task.sums;
    for (std::ptrdiff_t first = begin, last; first < end; first = last) {
      last = together(first, end);
      for (std::ptrdiff_t g = first; g < last; ++g) {
        split_units(source, spectra + g * stride, twiddles, g);
      }
      for (std::ptrdiff_t g = first; g < last; ++g) split_lanes(spectra + g * stride, twiddles, g);
      for (std::ptrdiff_t g = first; g < last; ++g) {
        join_product_lanes<true>(spectra + g * stride, response + g * stride,
                                 sums + g * kGroupFloats, twiddles, g);
      }
      for (std::ptrdiff_t g = first; g < last; ++g) {
        join_units(sums + g * kGroupFloats, sink, twiddles, g);
      }
    }
  }
};

void spectrum_block(const SpectrumBlockTask& task) noexcept {
  const TwoBlocks input{task.older, task.newer};
  const Filtered output{task.add, task.output};
  if (pass_splits(task.bins) == 0) {
    return BlockGroups<TwoBlocks, Filtered>{task, input, output}(0, 1);
  }
  const Chunks work{task.work};
  transform(input, output, task.work, task.twiddles, task.bins,
            BlockGroups<Chunks, Chunks>{task, work, work});
}

// Of one partition the spectrum is in the scratch memory, for nobody reads it again.
struct FilterGroups {
  const SpectrumFilterTask& task;

  __attribute__((noinline)) void operator()(std::ptrdiff_t begin, std::ptrdiff_t end) const {
    const GroupTwiddles twiddles = group_twiddles(task.twiddles, task.bins);
    const Chunks work{task.work};
    float* scratch = task.work + 2 * (std::ptrdiff_t)task.bins;
    float* sums = scratch + kGroupsTogether * kGroupFloats;
    const std::ptrdiff_t partitions = task.partitions;
    const std::ptrdiff_t stride = partitions * kGroupFloats;
    for (std::ptrdiff_t first = begin, last; first < end; first = last) {
      last = together(first, end);
      float* spectra = partitions == 1 ? scratch : task.spectra + first * stride;
      const float* response = task.response + first * stride;
      float* newest = spectra + (std::ptrdiff_t)task.newest * kGroupFloats;
      for (std::ptrdiff_t g = first; g < last; ++g) {
        split_units(work, newest + (g - first) * stride, twiddles, g);
      }
      for (std::ptrdiff_t g = first; g < last; ++g) {
        split_lanes(newest + (g - first) * stride, twiddles, g);
      }
      if (partitions == 1) {
        for (std::ptrdiff_t g = first; g < last; ++g) {
          const std::ptrdiff_t at = (g - first) * kGroupFloats;
          join_product_lanes<false>(spectra + at, response + at, sums + at, twiddles, g);
        }
      } else {
        for (std::ptrdiff_t i = 0; i < last - first; ++i) {
          sum_group<0>({spectra + i * stride, response + i * stride, sums + i * kGroupFloats,
                        task.partitions, task.newest});
        }
        for (std::ptrdiff_t g = first; g < last; ++g) {
          join_lanes(sums + (g - first) * kGroupFloats, twiddles, g);
        }
      }
      for (std::ptrdiff_t g = first; g < last; ++g) {
        join_units(sums + (g - first) * kGroupFloats, work, twiddles, g);
      }
    }
  }
};

// All of the newer block, and the end of the older one.
struct Newest {
  float* output;  // of the newer block
  std::ptrdiff_t bins;
  std::ptrdiff_t skipped;
  Vec bias;
  FXFAST_INLINE void put(std::ptrdiff_t n, std::ptrdiff_t offset, ComplexVec v) const {
    n += offset;
    store(output + n, v.im + bias);
    if (n >= skipped) store(output + n - bins, v.re + bias);
  }
};

void spectrum_filter(const SpectrumFilterTask& task) noexcept {
  const std::ptrdiff_t bins = task.bins;
  const Newest output{task.output + (task.step - bins), bins, 2 * bins - task.step,
                      broadcast(*task.bias)};
  transform(TwoBlocks{task.input, task.input + bins}, output, task.work, task.twiddles, task.bins,
            FilterGroups{task});
}

}  // namespace FXFAST_ISA_NAMESPACE
