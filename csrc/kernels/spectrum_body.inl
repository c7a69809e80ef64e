// Transforms for long filters (kernel_table.h), in steps. Included after kernels_body.inl, inside
// namespace fxfast, once per instruction set.
//
// All splits of blocks longer than a vector are plain vector operations with one twiddle for the
// whole block. For the last four, groups of kGroupBins are transposed in registers, so that those
// are plain too, with a twiddle for every lane.

namespace FXFAST_ISA_NAMESPACE {

struct ComplexVec {
  Vec re, im;
};

static FXFAST_INLINE ComplexVec times(ComplexVec a, ComplexVec w) {
  return {a.re * w.re - a.im * w.im, a.re * w.im + a.im * w.re};
}
static FXFAST_INLINE ComplexVec times_conjugate(ComplexVec a, ComplexVec w) {
  return {a.re * w.re + a.im * w.im, a.im * w.re - a.re * w.im};
}

// (a, b) becomes a + c b, a - c b with c = w, or with c = i w.
static FXFAST_INLINE void split(ComplexVec& a, ComplexVec& b, ComplexVec w) {
  const ComplexVec t = times(b, w);
  b = {a.re - t.re, a.im - t.im};
  a = {a.re + t.re, a.im + t.im};
}
static FXFAST_INLINE void split_i(ComplexVec& a, ComplexVec& b, ComplexVec w) {
  const ComplexVec t = times(b, w);
  b = {a.re + t.im, a.im - t.re};
  a = {a.re - t.im, a.im + t.re};
}

// The way back, times two.
static FXFAST_INLINE void join(ComplexVec& a, ComplexVec& b, ComplexVec w) {
  const ComplexVec d = {a.re - b.re, a.im - b.im};
  a = {a.re + b.re, a.im + b.im};
  b = times_conjugate(d, w);
}
static FXFAST_INLINE void join_i(ComplexVec& a, ComplexVec& b, ComplexVec w) {
  const ComplexVec d = {a.im - b.im, b.re - a.re};
  a = {a.re + b.re, a.im + b.im};
  b = times_conjugate(d, w);
}

// The twiddles of up to three splits in a row of one block: of the block, of its halves (the
// second has i times the first), of its quarters 0 and 2 (1 and 3 have i times those).
struct Twiddles {
  ComplexVec block, half, quarter0, quarter2;
};

template <int kSplits>
static FXFAST_INLINE void split_all(ComplexVec (&x)[1 << kSplits], const Twiddles& w) {
  constexpr int kHalf = 1 << (kSplits - 1);
#pragma GCC unroll 4
  for (int i = 0; i < kHalf; ++i) split(x[i], x[i + kHalf], w.block);
  if constexpr (kSplits >= 2) {
    constexpr int kQuarter = kHalf / 2;
#pragma GCC unroll 2
    for (int i = 0; i < kQuarter; ++i) {
      split(x[i], x[i + kQuarter], w.half);
      split_i(x[kHalf + i], x[kHalf + i + kQuarter], w.half);
    }
  }
  if constexpr (kSplits == 3) {
    split(x[0], x[1], w.quarter0);
    split_i(x[2], x[3], w.quarter0);
    split(x[4], x[5], w.quarter2);
    split_i(x[6], x[7], w.quarter2);
  }
}

// The way back, but for the last step: the splits of the first half, and of the second half.
template <int kSplits>
static FXFAST_INLINE void join_first(ComplexVec (&x)[1 << kSplits], const Twiddles& w) {
  constexpr int kQuarter = (1 << kSplits) / 4;
  if constexpr (kSplits == 3) {
    join(x[0], x[1], w.quarter0);
    join_i(x[2], x[3], w.quarter0);
  }
#pragma GCC unroll 2
  for (int i = 0; i < kQuarter; ++i) join(x[i], x[i + kQuarter], w.half);
}
template <int kSplits>
static FXFAST_INLINE void join_second(ComplexVec (&x)[1 << kSplits], const Twiddles& w) {
  constexpr int kHalf = 1 << (kSplits - 1), kQuarter = kHalf / 2;
  if constexpr (kSplits == 3) {
    join(x[4], x[5], w.quarter2);
    join_i(x[6], x[7], w.quarter2);
  }
#pragma GCC unroll 2
  for (int i = kHalf; i < kHalf + kQuarter; ++i) join_i(x[i], x[i + kQuarter], w.half);
}
static FXFAST_INLINE void join_all(ComplexVec (&x)[4], const Twiddles& w) {
  join_first<2>(x, w);
  join_second<2>(x, w);
  join(x[0], x[2], w.block);
  join(x[1], x[3], w.block);
}

template <int kSplits>
static FXFAST_INLINE Twiddles block_twiddles(const float* twiddles, int split, int block) {
  const auto at = [twiddles](int s, int b) -> ComplexVec {
    const float* w = twiddles + 2 * ((std::ptrdiff_t{1} << s) - 1 + b);
    return {broadcast(w[0]), broadcast(w[1])};
  };
  Twiddles w = {};
  w.block = at(split, block);
  if constexpr (kSplits >= 2) w.half = at(split + 1, 2 * block);
  if constexpr (kSplits == 3) {
    w.quarter0 = at(split + 2, 4 * block);
    w.quarter2 = at(split + 2, 4 * block + 2);
  }
  return w;
}

// --- where passes read and write -----------------------------------------------------------------
// Elements `n + offset` and on, where n or the offset is a multiple of kChunk.

static FXFAST_INLINE std::ptrdiff_t place(std::ptrdiff_t n) {
  return n + (n & ~(std::ptrdiff_t)(kChunk - 1));
}

struct Chunks {
  float* z;
  FXFAST_INLINE ComplexVec at(std::ptrdiff_t n, std::ptrdiff_t offset) const {
    const float* p = z + place(n) + place(offset);
    return {load(p), load(p + kChunk)};
  }
  FXFAST_INLINE void put(std::ptrdiff_t n, std::ptrdiff_t offset, ComplexVec v) const {
    float* p = z + place(n) + place(offset);
    store(p, v.re);
    store(p + kChunk, v.im);
  }
};
struct TwoBlocks {
  const float* older;
  const float* newer;
  FXFAST_INLINE ComplexVec at(std::ptrdiff_t n, std::ptrdiff_t offset) const {
    return {load(older + n + offset), load(newer + n + offset)};
  }
};
struct Filtered {
  const float* add;
  float* output;
  FXFAST_INLINE void put(std::ptrdiff_t n, std::ptrdiff_t offset, ComplexVec v) const {
    n += offset;
    store(output + n, add == nullptr ? v.im : v.im + load(add + n));
  }
};

// `kSplits` splits of blocks `begin` to `end` of those that `splits` splits have left.
template <int kSplits, typename Source>
__attribute__((noinline)) void forward_pass(const Source& source, float* work,
                                            const float* twiddles, int bins, int splits, int begin,
                                            int end) {
  const std::ptrdiff_t m = bins >> (splits + kSplits);
  const Chunks out{work};
  for (int block = begin; block < end; ++block) {
    const Twiddles w = block_twiddles<kSplits>(twiddles, splits, block);
    const std::ptrdiff_t first = (m << kSplits) * block;
    for (std::ptrdiff_t j = first; j < first + m; j += kVec) {
      ComplexVec x[1 << kSplits];
#pragma GCC unroll 8
      for (int i = 0; i < 1 << kSplits; ++i) x[i] = source.at(j, i * m);
      split_all<kSplits>(x, w);
#pragma GCC unroll 8
      for (int i = 0; i < 1 << kSplits; ++i) out.put(j, i * m, x[i]);
    }
  }
}

template <int kSplits, typename Sink>
__attribute__((noinline)) void inverse_pass(float* work, const Sink& sink, const float* twiddles,
                                            int bins, int splits, int begin, int end) {
  const std::ptrdiff_t m = bins >> (splits + kSplits);
  const Chunks in{work};
  for (int block = begin; block < end; ++block) {
    const std::ptrdiff_t first = (m << kSplits) * block;
    for (std::ptrdiff_t j = first; j < first + m; j += kVec) {
      ComplexVec x[1 << kSplits];
      constexpr int kHalf = 1 << (kSplits - 1);
#pragma GCC unroll 4
      for (int i = 0; i < kHalf; ++i) x[i] = in.at(j, i * m);
      join_first<kSplits>(x, block_twiddles<kSplits>(twiddles, splits, block));
      // Values and twiddles are loaded here and no earlier: there are no registers for all.
      __asm__ volatile("" ::: "memory");
      const Twiddles again = block_twiddles<kSplits>(twiddles, splits, block);
#pragma GCC unroll 4
      for (int i = kHalf; i < 2 * kHalf; ++i) x[i] = in.at(j, i * m);
      join_second<kSplits>(x, again);
#pragma GCC unroll 4
      for (int i = 0; i < kHalf; ++i) {
        join(x[i], x[i + kHalf], again.block);
        sink.put(j, i * m, x[i]);
        sink.put(j, (i + kHalf) * m, x[i + kHalf]);
      }
    }
  }
}

// --- the last splits, in groups ------------------------------------------------------------------

// With whole groups in registers, the first two splits of a group go with its last four.
constexpr bool kWholeGroups = kVec == kChunk;
constexpr int kUnits = kVec / 4;  // four lanes are a unit

#if FXFAST_VECTOR_FLOATS == 16
#define FXFAST_SHUFFLE(a, b, p, q, r, s)                                                          \
  __builtin_shufflevector(a, b, p, q, r, s, (p) + 4, (q) + 4, (r) + 4, (s) + 4, (p) + 8, (q) + 8, \
                          (r) + 8, (s) + 8, (p) + 12, (q) + 12, (r) + 12, (s) + 12)
#elif FXFAST_VECTOR_FLOATS == 8
#define FXFAST_SHUFFLE(a, b, p, q, r, s) \
  __builtin_shufflevector(a, b, p, q, r, s, (p) + 4, (q) + 4, (r) + 4, (s) + 4)
#else
#define FXFAST_SHUFFLE(a, b, p, q, r, s) __builtin_shufflevector(a, b, p, q, r, s)
#endif

// Lane k of vector l of every unit goes to lane l of vector k.
static FXFAST_INLINE void transpose_lanes(Vec& v0, Vec& v1, Vec& v2, Vec& v3) {
  const Vec a = FXFAST_SHUFFLE(v0, v1, 0, kVec, 1, kVec + 1);
  const Vec b = FXFAST_SHUFFLE(v0, v1, 2, kVec + 2, 3, kVec + 3);
  const Vec c = FXFAST_SHUFFLE(v2, v3, 0, kVec, 1, kVec + 1);
  const Vec d = FXFAST_SHUFFLE(v2, v3, 2, kVec + 2, 3, kVec + 3);
  v0 = FXFAST_SHUFFLE(a, c, 0, 1, kVec, kVec + 1);
  v1 = FXFAST_SHUFFLE(a, c, 2, 3, kVec + 2, kVec + 3);
  v2 = FXFAST_SHUFFLE(b, d, 0, 1, kVec, kVec + 1);
  v3 = FXFAST_SHUFFLE(b, d, 2, 3, kVec + 2, kVec + 3);
}
#undef FXFAST_SHUFFLE

// Unit u of vector v goes to unit v of vector u, among as many vectors as there are units.
static FXFAST_INLINE void transpose_units(Vec& v0, Vec& v1, Vec& v2, Vec& v3) {
#if FXFAST_VECTOR_FLOATS == 16
#define FXFAST_UNITS(a, b, p, q, r, s)                                                         \
  __builtin_shufflevector(a, b, 4 * p, 4 * p + 1, 4 * p + 2, 4 * p + 3, 4 * q, 4 * q + 1,      \
                          4 * q + 2, 4 * q + 3, 4 * r, 4 * r + 1, 4 * r + 2, 4 * r + 3, 4 * s, \
                          4 * s + 1, 4 * s + 2, 4 * s + 3)
  const Vec a = FXFAST_UNITS(v0, v1, 0, 2, 4, 6);
  const Vec b = FXFAST_UNITS(v0, v1, 1, 3, 5, 7);
  const Vec c = FXFAST_UNITS(v2, v3, 0, 2, 4, 6);
  const Vec d = FXFAST_UNITS(v2, v3, 1, 3, 5, 7);
  v0 = FXFAST_UNITS(a, c, 0, 2, 4, 6);
  v1 = FXFAST_UNITS(b, d, 0, 2, 4, 6);
  v2 = FXFAST_UNITS(a, c, 1, 3, 5, 7);
  v3 = FXFAST_UNITS(b, d, 1, 3, 5, 7);
#undef FXFAST_UNITS
#elif FXFAST_VECTOR_FLOATS == 8
  const Vec a = v0, b = v2;
  v0 = __builtin_shufflevector(a, v1, 0, 1, 2, 3, 8, 9, 10, 11);
  v1 = __builtin_shufflevector(a, v1, 4, 5, 6, 7, 12, 13, 14, 15);
  v2 = __builtin_shufflevector(b, v3, 0, 1, 2, 3, 8, 9, 10, 11);
  v3 = __builtin_shufflevector(b, v3, 4, 5, 6, 7, 12, 13, 14, 15);
#else
  (void)v0, (void)v1, (void)v2, (void)v3;
#endif
}

static FXFAST_INLINE void transpose_lanes(ComplexVec (&x)[4]) {
  transpose_lanes(x[0].re, x[1].re, x[2].re, x[3].re);
  transpose_lanes(x[0].im, x[1].im, x[2].im, x[3].im);
}
static FXFAST_INLINE void transpose_units(ComplexVec (&x)[4]) {
  transpose_units(x[0].re, x[1].re, x[2].re, x[3].re);
  transpose_units(x[0].im, x[1].im, x[2].im, x[3].im);
}

// Of blocks `block` and on of a group, a unit each: which element vector i starts with, so that
// the transpose of units leaves quarter i of every block in it.
static FXFAST_INLINE int first_element(int block, int i) {
  return (block + i % kUnits) * kChunk + i / kUnits * kVec;
}

// The twiddles of the plan as groups use them.
struct GroupTwiddles {
  const float* blocks;
  const float* lanes;
  int splits;  // before the group
};

static FXFAST_INLINE GroupTwiddles group_twiddles(const float* twiddles, int bins) {
  return {twiddles, twiddles + spectrum_twiddle_floats(bins),
          __builtin_ctz((unsigned)bins / kGroupBins)};
}

// Of two splits: those of blocks of 16 in the first half of the lanes, of 4 in the second.
static FXFAST_INLINE Twiddles lane_twiddles(const float* lanes) {
  Twiddles w = {};
  w.block = {load(lanes), load(lanes + kChunk)};
  w.half = {load(lanes + 2 * kChunk), load(lanes + 3 * kChunk)};
  return w;
}

static FXFAST_INLINE void load_columns(ComplexVec (&x)[4], const float* group, int block) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* p = group + 2 * kChunk * i + 4 * block;
    x[i] = {load(p), load(p + kChunk)};
  }
}

static FXFAST_INLINE void store_columns(const ComplexVec (&x)[4], float* group, int block) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    float* p = group + 2 * kChunk * i + 4 * block;
    store(p, x[i].re);
    store(p + kChunk, x[i].im);
  }
}

// The splits of a group in two passes. One pass over all would be a longer chain of dependent
// steps than the processor looks ahead.
template <typename Source>
static FXFAST_INLINE void split_units(const Source& source, float* spectrum,
                                      const GroupTwiddles& twiddles, std::ptrdiff_t group) {
  const float* lanes = twiddles.lanes + group * kGroupFloats;
  for (int block = 0; block < 4; block += kUnits) {
    ComplexVec x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) x[i] = source.at(group * kGroupBins, first_element(block, i));
    if constexpr (kWholeGroups) {
      split_all<2>(x, block_twiddles<2>(twiddles.blocks, twiddles.splits, (int)group));
    }
    transpose_units(x);
    split_all<2>(x, lane_twiddles(lanes + 4 * block));
    store_columns(x, spectrum, block);
  }
}

static FXFAST_INLINE void split_lanes(float* spectrum, const GroupTwiddles& twiddles,
                                      std::ptrdiff_t group) {
  const float* lanes = twiddles.lanes + group * kGroupFloats + 4 * kChunk;
  for (int block = 0; block < 4; block += kUnits) {
    ComplexVec x[4];
    load_columns(x, spectrum, block);
    transpose_lanes(x);
    split_all<2>(x, lane_twiddles(lanes + 4 * block));
    store_columns(x, spectrum, block);
  }
}

// Of a spectrum times a response; with kAdd, plus what `product` holds.
template <bool kAdd>
static FXFAST_INLINE void join_product_lanes(const float* spectrum, const float* response,
                                             float* product, const GroupTwiddles& twiddles,
                                             std::ptrdiff_t group) {
  const float* lanes = twiddles.lanes + group * kGroupFloats + 4 * kChunk;
  for (int block = 0; block < 4; block += kUnits) {
    ComplexVec x[4], h[4], sum[4];
    load_columns(x, spectrum, block);
    load_columns(h, response, block);
    if constexpr (kAdd) load_columns(sum, product, block);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] = times(x[i], h[i]);
      if constexpr (kAdd) x[i] = {sum[i].re + x[i].re, sum[i].im + x[i].im};
    }
    join_all(x, lane_twiddles(lanes + 4 * block));
    transpose_lanes(x);
    store_columns(x, product, block);
  }
}

static FXFAST_INLINE void join_lanes(float* spectrum, const GroupTwiddles& twiddles,
                                     std::ptrdiff_t group) {
  const float* lanes = twiddles.lanes + group * kGroupFloats + 4 * kChunk;
  for (int block = 0; block < 4; block += kUnits) {
    ComplexVec x[4];
    load_columns(x, spectrum, block);
    join_all(x, lane_twiddles(lanes + 4 * block));
    transpose_lanes(x);
    store_columns(x, spectrum, block);
  }
}

template <typename Sink>
static FXFAST_INLINE void join_units(const float* spectrum, const Sink& sink,
                                     const GroupTwiddles& twiddles, std::ptrdiff_t group) {
  const float* lanes = twiddles.lanes + group * kGroupFloats;
  for (int block = 0; block < 4; block += kUnits) {
    ComplexVec x[4];
    load_columns(x, spectrum, block);
    join_all(x, lane_twiddles(lanes + 4 * block));
    transpose_units(x);
    if constexpr (kWholeGroups) {
      join_all(x, block_twiddles<2>(twiddles.blocks, twiddles.splits, (int)group));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sink.put(group * kGroupBins, first_element(block, i), x[i]);
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
