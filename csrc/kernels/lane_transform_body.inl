// Convolutions by transforms, in lanes; compiled per instruction set right after kernels_body.inl
// and under the same rules. A vector holds the same sample of several blocks, so that a transform
// is made of plain vector operations and no value moves between the lanes of a register.
//
// Two real rows make one complex signal z = x0 + i x1. Its spectrum is not taken apart into those
// of x0 and x1: bin b of the product reads Z[b] and conj(Z[N - b]) in the place of channels and
// writes the same of the outputs, and the packed weights have the mixing inside.

namespace FXFAST_ISA_NAMESPACE {
namespace in_lanes {

constexpr int kLaneVecs = kLanes / kVec;
// A transform is a pass of this radix, whose elements fill the registers, and passes of radix 4.
constexpr int kFirst = FXFAST_VECTOR_REGISTERS >= 32 ? 8 : 2;
constexpr int kRest = kTransform / kFirst;

// y[q] = sum_m x[m] exp(-2 pi i m q / radix).
static FXFAST_INLINE void butterfly(Vec (&r)[2], Vec (&i)[2]) {
  const Vec r1 = r[0] - r[1], i1 = i[0] - i[1];
  r[0] += r[1], i[0] += i[1];
  r[1] = r1, i[1] = i1;
}

static FXFAST_INLINE void butterfly(Vec (&r)[4], Vec (&i)[4]) {
  const Vec r0 = r[0] + r[2], i0 = i[0] + i[2], r1 = r[0] - r[2], i1 = i[0] - i[2];
  const Vec r2 = r[1] + r[3], i2 = i[1] + i[3], r3 = r[1] - r[3], i3 = i[1] - i[3];
  r[0] = r0 + r2, i[0] = i0 + i2;
  r[2] = r0 - r2, i[2] = i0 - i2;
  r[1] = r1 + i3, i[1] = i1 - r3;
  r[3] = r1 - i3, i[3] = i1 + r3;
}

static FXFAST_INLINE void butterfly(Vec (&r)[8], Vec (&i)[8]) {
  constexpr float kHalf = 0.70710678118654752f;
  Vec even_r[4], even_i[4], odd_r[4], odd_i[4];
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    even_r[m] = r[m] + r[m + 4], even_i[m] = i[m] + i[m + 4];
    odd_r[m] = r[m] - r[m + 4], odd_i[m] = i[m] - i[m + 4];
  }
  const Vec r1 = odd_r[1], i1 = odd_i[1], r2 = odd_r[2], r3 = odd_r[3], i3 = odd_i[3];
  odd_r[1] = (r1 + i1) * kHalf, odd_i[1] = (i1 - r1) * kHalf;
  odd_r[2] = odd_i[2], odd_i[2] = -r2;
  odd_r[3] = (i3 - r3) * kHalf, odd_i[3] = (r3 + i3) * -kHalf;
  butterfly(even_r, even_i);
  butterfly(odd_r, odd_i);
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    r[2 * q] = even_r[q], i[2 * q] = even_i[q];
    r[2 * q + 1] = odd_r[q], i[2 * q + 1] = odd_i[q];
  }
}

// Two operations read what is loaded here, and the compiler would load it for each of them.
static FXFAST_INLINE Vec load_once(const float* p) {
  Vec value = load(p);
#ifdef __AVX__
  __asm__("" : "+v"(value));
#endif
  return value;
}

// By exp(-2 pi i turn / N): `table` has the cosine and the negative sine of each turn.
static FXFAST_INLINE void rotate(Vec& r, Vec& i, const float* table, int turn) {
  const Vec c = broadcast(table[2 * turn]), s = broadcast(table[2 * turn + 1]);
  const Vec rotated = r * c - i * s;
  i = r * s + i * c;
  r = rotated;
}

// Where a transform of N stands in memory: element e of the work area is its real vector, then its
// imaginary one; of the spectra, the bins of all rows are interleaved (see SpectralTask).
struct Spectra {
  float* at;                 // first row of the pair in bin 0
  std::ptrdiff_t bin;        // floats from one bin to the next
  std::ptrdiff_t imaginary;  // floats from the real to the imaginary part of a bin
};

template <int kRadix>
static FXFAST_INLINE void forward_first(const float* re, const float* im, int samples,
                                        const float* table, float* work) {
  constexpr int kSub = kTransform / kRadix;
  for (int j = 0; j < kSub; ++j) {
    Vec r[kRadix], i[kRadix];
#pragma GCC unroll 8
    for (int m = 0; m < kRadix; ++m) {
      const int t = j + m * kSub;
      r[m] = t < samples ? load(re + t * kLanes) : Vec{};
      i[m] = t < samples ? load(im + t * kLanes) : Vec{};
    }
    butterfly(r, i);
#pragma GCC unroll 8
    for (int q = 0; q < kRadix; ++q) {
      if (q > 0) rotate(r[q], i[q], table, q * j);
      store(work + (q * kSub + j) * 2 * kVec, r[q]);
      store(work + (q * kSub + j) * 2 * kVec + kVec, i[q]);
    }
  }
}

// Every block of kM elements, in place.
template <int kM, int kRadix>
static FXFAST_INLINE void forward_middle(const float* table, float* work) {
  constexpr int kSub = kM / kRadix, kTurn = kTransform / kM;
  for (int j = 0; j < kSub; ++j) {
    for (int b = 0; b < kTransform; b += kM) {
      float* at = work + (b + j) * 2 * kVec;
      Vec r[kRadix], i[kRadix];
#pragma GCC unroll 8
      for (int m = 0; m < kRadix; ++m) {
        r[m] = load(at + m * kSub * 2 * kVec);
        i[m] = load(at + m * kSub * 2 * kVec + kVec);
      }
      butterfly(r, i);
#pragma GCC unroll 8
      for (int q = 0; q < kRadix; ++q) {
        if (q > 0) rotate(r[q], i[q], table, q * j * kTurn);
        store(at + q * kSub * 2 * kVec, r[q]);
        store(at + q * kSub * 2 * kVec + kVec, i[q]);
      }
    }
  }
}

// The last four elements of each block are four bins a quarter of the spectrum apart.
static FXFAST_INLINE void forward_last(const float* work, int position, int k, Spectra out) {
  Vec r[4], i[4];
  const float* from = work + position * 2 * kVec;
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    r[m] = load(from + m * 2 * kVec);
    i[m] = load(from + m * 2 * kVec + kVec);
  }
  butterfly(r, i);
  float* low = out.at + k * out.bin;
  float* high = out.at + (k + kTransform / 4) * out.bin;
  float* low_mirror = out.at + (kTransform / 2 - k) * out.bin + kLanes;
  float* high_mirror = out.at + (kTransform / 4 - k) * out.bin + kLanes;
  store(high, r[1]);
  store(high + out.imaginary, i[1]);
  store(high_mirror, r[3]);
  store(high_mirror + out.imaginary, -i[3]);
  if (k == 0) {  // both are real of each row
    store(low, r[0]);
    store(low + kLanes, i[0]);
    store(low_mirror - kLanes, r[2]);
    store(low_mirror, i[2]);
  } else {
    store(low, r[0]);
    store(low + out.imaginary, i[0]);
    store(low_mirror, r[2]);
    store(low_mirror + out.imaginary, -i[2]);
  }
}

static FXFAST_INLINE void forward_pair(const float* re, const float* im, int samples,
                                       const float* table, float* work, Spectra out) {
  forward_first<kFirst>(re, im, samples, table, work);
  if constexpr (kRest == 64) forward_middle<64, 4>(table, work);
  forward_middle<16, 4>(table, work);
  for (int a = 0; a < kFirst; ++a) {
    for (int b = 0; b < kRest / 16; ++b) {
      for (int c = 0; c < 4; ++c) {
        const int k = a + kFirst * (b + (kRest / 16) * c);
        forward_last(work, (a * (kRest / 4) + b * 4 + c) * 4, k, out);
      }
    }
  }
}

// --- inverse: the same passes backwards, with real and imaginary parts exchanged ---------------

static FXFAST_INLINE void inverse_first(Spectra from, int position, int k, float* work) {
  Vec r[4], i[4];
  const float* low = from.at + k * from.bin;
  const float* high = from.at + (k + kTransform / 4) * from.bin;
  const float* low_mirror = from.at + (kTransform / 2 - k) * from.bin + kLanes;
  const float* high_mirror = from.at + (kTransform / 4 - k) * from.bin + kLanes;
  r[1] = load(high), i[1] = load(high + from.imaginary);
  r[3] = load(high_mirror), i[3] = -load(high_mirror + from.imaginary);
  if (k == 0) {
    r[0] = load(low), i[0] = load(low + kLanes);
    r[2] = load(low_mirror - kLanes), i[2] = load(low_mirror);
  } else {
    r[0] = load(low), i[0] = load(low + from.imaginary);
    r[2] = load(low_mirror), i[2] = -load(low_mirror + from.imaginary);
  }
  butterfly(i, r);
  float* to = work + position * 2 * kVec;
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    store(to + m * 2 * kVec, r[m]);
    store(to + m * 2 * kVec + kVec, i[m]);
  }
}

template <int kM, int kRadix>
static FXFAST_INLINE void inverse_middle(const float* table, float* work) {
  constexpr int kSub = kM / kRadix, kTurn = kTransform / kM;
  for (int j = 0; j < kSub; ++j) {
    for (int b = 0; b < kTransform; b += kM) {
      float* at = work + (b + j) * 2 * kVec;
      Vec r[kRadix], i[kRadix];
#pragma GCC unroll 8
      for (int q = 0; q < kRadix; ++q) {
        r[q] = load_once(at + q * kSub * 2 * kVec);
        i[q] = load_once(at + q * kSub * 2 * kVec + kVec);
        if (q > 0) rotate(i[q], r[q], table, q * j * kTurn);
      }
      butterfly(i, r);
#pragma GCC unroll 8
      for (int m = 0; m < kRadix; ++m) {
        store(at + m * kSub * 2 * kVec, r[m]);
        store(at + m * kSub * 2 * kVec + kVec, i[m]);
      }
    }
  }
}

// What finish does; a mask costs more here, where the adders have all the work.
template <Epilogue kEpilogue>
static FXFAST_INLINE Vec ended(Vec value, const float* slope) {
  return kEpilogue == Epilogue::kRelu ? larger(value, Vec{}) : finish<kEpilogue>(value, slope);
}

// A row without a partner has itself for one: what is stored last, the real part, stays.
template <int kRadix, Epilogue kEpilogue>
static FXFAST_INLINE void inverse_last(const float* table, const float* work, float* re, float* im,
                                       const float* bias, const float* slopes, int partner) {
  constexpr int kSub = kTransform / kRadix;
  const Vec bias_re = broadcast(bias[0]), bias_im = broadcast(bias[partner]);
  for (int j = 0; j < kSub; ++j) {
    Vec r[kRadix], i[kRadix];
#pragma GCC unroll 8
    for (int q = 0; q < kRadix; ++q) {
      r[q] = load_once(work + (q * kSub + j) * 2 * kVec);
      i[q] = load_once(work + (q * kSub + j) * 2 * kVec + kVec);
      if (q > 0) rotate(i[q], r[q], table, q * j);
    }
    butterfly(i, r);
#pragma GCC unroll 8
    for (int m = 0; m < kRadix; ++m) {
      const int t = j + m * kSub - kSpectralStart;
      if (m * kSub < kSpectralStart && t < 0) continue;
      store(im + t * kLanes, ended<kEpilogue>(i[m] + bias_im, slopes + partner));
      store(re + t * kLanes, ended<kEpilogue>(r[m] + bias_re, slopes));
    }
  }
}

template <Epilogue kEpilogue>
static FXFAST_INLINE void inverse_pair(Spectra from, const float* table, float* work, float* re,
                                       float* im, const float* bias, const float* slopes,
                                       int partner) {
  for (int a = 0; a < kFirst; ++a) {
    for (int b = 0; b < kRest / 16; ++b) {
      for (int c = 0; c < 4; ++c) {
        const int k = a + kFirst * (b + (kRest / 16) * c);
        inverse_first(from, (a * (kRest / 4) + b * 4 + c) * 4, k, work);
      }
    }
  }
  inverse_middle<16, 4>(table, work);
  if constexpr (kRest == 64) inverse_middle<64, 4>(table, work);
  inverse_last<kFirst, kEpilogue>(table, work, re, im, bias, slopes, partner);
}

}  // namespace in_lanes
}  // namespace FXFAST_ISA_NAMESPACE
