// The few vector operations of the fused kernels, over the compiler's vector types.
// Included only by kernels_body.inl, once per instruction set, inside that set's namespace;
// it must include nothing from the standard library's inline functions, because the linker
// might keep a copy compiled for a wider instruction set for everyone.

typedef float Vec __attribute__((vector_size(4 * FXFAST_VECTOR_FLOATS)));
typedef float UnalignedVec
    __attribute__((vector_size(4 * FXFAST_VECTOR_FLOATS), aligned(4), may_alias));
typedef int IntVec __attribute__((vector_size(4 * FXFAST_VECTOR_FLOATS)));

#define FXFAST_INLINE inline __attribute__((always_inline))

static FXFAST_INLINE Vec load(const float* p) { return *(const UnalignedVec*)p; }
static FXFAST_INLINE void store(float* p, Vec v) { *(UnalignedVec*)p = v; }
// A value that later operations find in a register: the compiler would else load it again for each
// of them, and a vector across two cache lines costs two loads.
static FXFAST_INLINE Vec in_register(Vec v) {
#ifdef __AVX512F__
  __asm__("" : "+v"(v));
#elif defined(__SSE__)
  __asm__("" : "+x"(v));
#endif
  return v;
}
static FXFAST_INLINE Vec broadcast(float value) { return value - Vec{}; }
static FXFAST_INLINE Vec select(IntVec mask, Vec a, Vec b) { return mask ? a : b; }

// The larger and the smaller, lane by lane. The compiler makes a comparison and a blend of the
// plain form, which takes three times as long.
static FXFAST_INLINE Vec larger(Vec a, Vec b) {
#ifdef __AVX__
  Vec result;
  __asm__("vmaxps %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
  return result;
#else
  return select(a > b, a, b);
#endif
}
static FXFAST_INLINE Vec smaller(Vec a, Vec b) {
#ifdef __AVX__
  Vec result;
  __asm__("vminps %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
  return result;
#else
  return select(a < b, a, b);
#endif
}
static FXFAST_INLINE Vec clamp(Vec x, float low, float high) {
  return smaller(larger(x, broadcast(low)), broadcast(high));
}

// exp2(w) = scale * (u + v) / (u - v) for abs(w) <= 120: w = n + r, scale = 2^n, v = r and
// u = r * coth(r * ln(2) / 2), an even function of which three terms are exact to 2e-9.
struct Exp2Parts {
  Vec scale, u, v;
};
struct Exp2Numbers {
  Vec magic, third, second, first;
  IntVec exponent_of_one;
};
// Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
static FXFAST_INLINE Exp2Numbers exp2_numbers() {
  return {broadcast(12582912.0f), broadcast(-0.00092110562f), broadcast(0.11552416f),
          broadcast(2.88539004f), IntVec{} + 127};
}

static FXFAST_INLINE Exp2Parts exp2_parts(Vec w, const Exp2Numbers& k) {
  const Vec shifted = w + k.magic;
  const Vec r = w - (shifted - k.magic);
  const IntVec scale_bits = ((IntVec)shifted + k.exponent_of_one) << 23;
  const Vec r2 = r * r;
  return {(Vec)scale_bits, (r2 * k.third + k.second) * r2 + k.first, r};
}

#ifdef __AVX512DQ__
#include "kernels/tanh_table.inl"
#else
struct TanhNumbers {
  Exp2Numbers exp2;
  Vec scale, low, high, one;
};
static FXFAST_INLINE TanhNumbers tanh_numbers() {
  return {exp2_numbers(), broadcast(2.885390082f), broadcast(-60.0f), broadcast(60.0f),
          broadcast(1.0f)};
}

// tanh(x) = (E - 1) / (E + 1), E = exp(2x); the products are arranged so that the result is
// accurate relative to itself near zero too (about 4 ulp everywhere). The denominator is made from
// the numerator: where both are large they have the same rounding, which the division takes away.
// Held numbers or not is the compiler's choice here.
template <bool kHeld>
static FXFAST_INLINE Vec tanh_with(Vec x, const TanhNumbers& k) {
  const Exp2Parts e = exp2_parts(smaller(larger(x * k.scale, k.low), k.high), k.exp2);
  const Vec less = e.scale - k.one, more = e.scale + k.one;
  const Vec over = less * e.u + more * e.v;
  return over / ((over - e.v * 2.0f) + e.u * 2.0f);
}
static FXFAST_INLINE Vec tanh_of(Vec x) { return tanh_with<true>(x, tanh_numbers()); }
#endif

// sigmoid(x) = E / (E + 1), E = exp(x).
static FXFAST_INLINE Vec sigmoid_of(Vec x) {
  const Exp2Parts e = exp2_parts(clamp(x * 1.442695041f, -120.0f, 120.0f), exp2_numbers());
  const Vec numerator = e.scale * (e.u + e.v);
  return numerator / (numerator + (e.u - e.v));
}

// x * sigmoid(x); below -80 it is zero to every float, and the clamp keeps it so.
static FXFAST_INLINE Vec silu_of(Vec x) {
  const Vec low = larger(x, broadcast(-80.0f));
  return low * sigmoid_of(low);
}

static FXFAST_INLINE Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// The approximation of tanh in the reference engine of .nam models, to the same coefficients.
// Beyond 1e6 its cubes would overflow, and it has long been constant.
static FXFAST_INLINE Vec fasttanh_of(Vec any) {
  const Vec x = clamp(any, -1e6f, 1e6f);
  const Vec ax = absolute(x), x2 = x * x;
  const Vec over = x * (2.45550750702956f + 2.45550750702956f * ax +
                        (0.893229853513558f + 0.821226666969744f * ax) * x2);
  const Vec under =
      2.44506634652299f + (2.44506634652299f + x2) * absolute(x + 0.814642734961073f * x * ax);
  return over / under;
}

static FXFAST_INLINE Vec hardtanh_of(Vec x) { return clamp(x, -1.0f, 1.0f); }
static FXFAST_INLINE Vec hardswish_of(Vec x) {
  return select(x > 3.0f, x, x * (clamp(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f)));
}
static FXFAST_INLINE Vec softsign_of(Vec x) { return x / (1.0f + absolute(x)); }
