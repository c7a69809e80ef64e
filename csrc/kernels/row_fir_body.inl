// Direct FIR filters of one channel, compiled per instruction set right after kernels_body.inl and
// under the same rules.

namespace FXFAST_ISA_NAMESPACE {

// Taps a whole number of vectors apart read the same unaligned vectors, so that each is loaded
// once for kFirChains of them; and each of them has a sum of its own, so that no chain of rounded
// additions is longer than a quarter of a group.
constexpr int kFirChains = 4;
constexpr int kFirWidth = FXFAST_VECTOR_REGISTERS >= 32 ? 4 : 2;
static_assert(kGroupBins % (kFirChains * kVec) == 0);

// The compiler would load a vector again wherever it is read.
static FXFAST_INLINE Vec kept(Vec v) {
#if FXFAST_VECTOR_REGISTERS >= 32
  __asm__("" : "+v"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#endif
  return v;
}

template <int kWidth>
__attribute__((noinline)) void fir_tile(const FirTask& task, std::ptrdiff_t start) {
  // The oldest taps first: of a response that decays, those are the smallest.
  Vec total[kWidth] = {};
  const float* x = task.input + start - (task.tap_count - 1);
  const float* h = task.taps + task.tap_count;
  for (int group = task.tap_count / kGroupBins; group > 0; --group) {
    Vec sum[kFirChains][kWidth] = {};
    for (int part = 0; part < kGroupBins / (kFirChains * kVec); ++part) {
      h -= (kFirChains - 1) * kVec;
#pragma GCC unroll 1  // not enough registers for more
      for (int r = 0; r < kVec; ++r, ++x) {
        --h;
        Vec in[kWidth + kFirChains - 1];
#pragma GCC unroll 8
        for (int j = 0; j < kWidth + kFirChains - 1; ++j) in[j] = kept(load(x + j * kVec));
#pragma GCC unroll 4
        for (int a = 0; a < kFirChains; ++a) {
          const Vec tap = broadcast(h[a * kVec]);
#pragma GCC unroll 4
          for (int n = 0; n < kWidth; ++n) sum[a][n] += tap * in[n + kFirChains - 1 - a];
        }
      }
      x += (kFirChains - 1) * kVec;
    }
#pragma GCC unroll 4
    for (int n = 0; n < kWidth; ++n) {
      total[n] += ((sum[3][n] + sum[2][n]) + sum[1][n]) + sum[0][n];
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < kWidth; ++n) {
    if (task.add != nullptr) total[n] += load(task.add + start + n * kVec);
    store(task.output + start + n * kVec, total[n] + broadcast(*task.bias));
  }
}

template <int kWidth>
static FXFAST_INLINE void fir_tail(const FirTask& task, std::ptrdiff_t start, int vectors) {
  if (vectors == kWidth) {
    fir_tile<kWidth>(task, start);
  } else if constexpr (kWidth > 1) {
    fir_tail<kWidth - 1>(task, start, vectors);
  }
}

void fir(const FirTask& task) noexcept {
  int vectors = (task.samples + kVec - 1) / kVec;
  std::ptrdiff_t start = 0;
  for (; vectors >= kFirWidth; vectors -= kFirWidth, start += kFirWidth * kVec) {
    fir_tile<kFirWidth>(task, start);
  }
  if constexpr (kFirWidth > 1) fir_tail<kFirWidth - 1>(task, start, vectors);
}

}  // namespace FXFAST_ISA_NAMESPACE
