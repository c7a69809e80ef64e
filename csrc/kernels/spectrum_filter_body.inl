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
static FXFAST_INLINE void forward_any(const Source& source, float* work, const float* twiddles,
                                      int bins, int done, int splits) {
  if (splits == 1) return forward_pass<1>(source, work, twiddles, bins, done);
  if (splits == 2) return forward_pass<2>(source, work, twiddles, bins, done);
  if constexpr (kMaxSplits == 3) forward_pass<3>(source, work, twiddles, bins, done);
}

template <typename Sink>
static FXFAST_INLINE void inverse_any(float* work, const Sink& sink, const float* twiddles,
                                      int bins, int done, int splits) {
  if (splits == 1) return inverse_pass<1>(work, sink, twiddles, bins, done);
  if (splits == 2) return inverse_pass<2>(work, sink, twiddles, bins, done);
  if constexpr (kMaxSplits == 3) inverse_pass<3>(work, sink, twiddles, bins, done);
}

// sum += spectrum * response of one group.
static FXFAST_INLINE void multiply_add_group(const float* spectrum, const float* response,
                                             float* sum) {
  for (int n = 0; n < kGroupBins; n += kVec) {
    const std::ptrdiff_t at = place(n);
    const ComplexVec x = {load(spectrum + at), load(spectrum + at + kChunk)};
    const ComplexVec h = {load(response + at), load(response + at + kChunk)};
    const ComplexVec y = times(x, h);
    store(sum + at, load(sum + at) + y.re);
    store(sum + at + kChunk, load(sum + at + kChunk) + y.im);
  }
}

// Steps over several groups, for each is a chain of dependent instructions; not so many that they
// leave the first-level cache.
constexpr int kGroupsTogether = 8;

template <typename Source, typename Sink>
__attribute__((noinline)) void block_groups(const SpectrumBlockTask& task, const Source source,
                                            const Sink sink) {
  const GroupTwiddles twiddles = group_twiddles(task.twiddles, task.bins);
  const std::ptrdiff_t stride = (std::ptrdiff_t)task.partitions * kGroupFloats;
  float* spectra = task.spectra + (std::ptrdiff_t)task.newest * kGroupFloats;
  const float* response = task.response;
  float* sums = task.sums;
  const std::ptrdiff_t groups = task.bins / kGroupBins;
  for (std::ptrdiff_t first = 0; first < groups; first += kGroupsTogether) {
    const std::ptrdiff_t end = first + kGroupsTogether < groups ? first + kGroupsTogether : groups;
    for (std::ptrdiff_t g = first; g < end; ++g) {
      split_units(source, spectra + g * stride, twiddles, g);
    }
    for (std::ptrdiff_t g = first; g < end; ++g) split_lanes(spectra + g * stride, twiddles, g);
    for (std::ptrdiff_t g = first; g < end; ++g) {
      multiply_add_group(spectra + g * stride, response + g * stride, sums + g * kGroupFloats);
    }
    for (std::ptrdiff_t g = first; g < end; ++g) join_lanes(sums + g * kGroupFloats, twiddles, g);
    for (std::ptrdiff_t g = first; g < end; ++g) {
      join_units(sums + g * kGroupFloats, sink, twiddles, g);
    }
  }
}

void spectrum_block(const SpectrumBlockTask& task) noexcept {
  const TwoBlocks input{task.older, task.newer};
  const Filtered output{task.add, task.output};
  const Chunks work{task.work};
  const int splits = pass_splits(task.bins);
  if (splits == 0) return block_groups(task, input, output);
  const int first = first_splits(splits);
  forward_any(input, task.work, task.twiddles, task.bins, 0, first);
  for (int done = first; done < splits; done += kMaxSplits) {
    forward_pass<kMaxSplits>(work, task.work, task.twiddles, task.bins, done);
  }
  block_groups(task, work, work);
  for (int done = splits; done > first;) {
    done -= kMaxSplits;
    inverse_pass<kMaxSplits>(task.work, work, task.twiddles, task.bins, done);
  }
  inverse_any(task.work, output, task.twiddles, task.bins, 0, first);
}

// Sums of the four real products apart, so that twice as many chains hide the latency.
template <int kWidth>
static FXFAST_INLINE void sum_columns(const SpectrumSumTask& task, std::ptrdiff_t at,
                                      std::ptrdiff_t step) {
  Vec rr[kWidth] = {}, ii[kWidth] = {}, ri[kWidth] = {}, ir[kWidth] = {};
  const float* end = task.spectra + (std::ptrdiff_t)task.partitions * kGroupFloats + at;
  const float* x = task.spectra + (std::ptrdiff_t)task.newest * kGroupFloats + at;
  const float* h = task.response + at;
  for (int p = 1; p < task.partitions; ++p) {
    x += kGroupFloats;
    h += kGroupFloats;
    x = x == end ? task.spectra + at : x;
#pragma GCC unroll 4
    for (int n = 0; n < kWidth; ++n) {
      const Vec xr = load(x + n * step), xi = load(x + n * step + kChunk);
      const Vec hr = load(h + n * step), hi = load(h + n * step + kChunk);
      rr[n] += xr * hr;
      ii[n] += xi * hi;
      ri[n] += xr * hi;
      ir[n] += xi * hr;
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < kWidth; ++n) {
    store(task.sum + at + n * step, rr[n] - ii[n]);
    store(task.sum + at + n * step + kChunk, ri[n] + ir[n]);
  }
}

void spectrum_sum(const SpectrumSumTask& task) noexcept {
  if constexpr (kWholeGroups) {
    sum_columns<4>(task, 0, 2 * kChunk);
  } else {
    for (int n = 0; n < kChunk; n += kVec) {
      sum_columns<2>(task, n, 2 * kChunk);
      sum_columns<2>(task, n + 4 * kChunk, 2 * kChunk);
    }
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
