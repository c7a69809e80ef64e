// tanh from a table, for AVX-512: no division, and every value within one rounding and a half.
// Included by simd.h, under its rules.
//
// abs(x) below 7.875 is the nearest multiple c of 1/4 and the rest t: tanh(c + t) is a polynomial
// of degree 5 in t, whose numbers stand in tanh_table[power][4 c]. Those of c = 0 begin with 0, so
// small values are exact relative to themselves; the last ones are a line that ends at 1. Found by
// weighted least squares, each number rounded before the next was sought; 0.4 ulp RMS, 1.6 at most
// below 7.6, 5 at most between there and 9, where float32 has only ones.
alignas(64) static const float tanh_table[6][32] = {
    {0.0f,           2.4491866e-01f, 4.6211717e-01f, 6.3514894e-01f, 7.615942e-01f,  8.4828365e-01f,
     9.0514827e-01f, 9.4137555e-01f, 9.640276e-01f,  9.780261e-01f,  9.866143e-01f,  9.9185973e-01f,
     9.950548e-01f,  9.9699765e-01f, 9.981779e-01f,  9.9889445e-01f, 9.993293e-01f,  9.9959314e-01f,
     9.9975324e-01f, 9.9985033e-01f, 9.999092e-01f,  9.999449e-01f,  9.999666e-01f,  9.9997973e-01f,
     9.999877e-01f,  9.9999255e-01f, 9.9999547e-01f, 9.9999726e-01f, 9.9999833e-01f, 9.99999e-01f,
     9.999994e-01f,  9.9999976e-01f},
    {1.0f,           9.40015e-01f,   7.8644776e-01f, 5.965858e-01f,  4.1997436e-01f, 2.8041488e-01f,
     1.8070664e-01f, 1.138121e-01f,  7.065082e-02f,  4.3464918e-02f, 2.6592227e-02f, 1.6214287e-02f,
     9.866037e-03f,  5.995715e-03f,  3.6408848e-03f, 2.2098923e-03f, 1.3409507e-03f, 8.135424e-04f,
     4.9351744e-04f, 2.9936252e-04f, 1.8158324e-04f, 1.1013973e-04f, 6.6804576e-05f, 4.0519553e-05f,
     2.4576548e-05f, 1.4906502e-05f, 9.041277e-06f,  5.4838215e-06f, 3.3261094e-06f, 2.0173886e-06f,
     1.2236086e-06f, 1.9058953e-06f},
    {3.1188856e-07f,  -2.3021929e-01f,  -3.634284e-01f,  -3.7891576e-01f,
     -3.1986234e-01f, -2.3787728e-01f,  -1.635742e-01f,  -1.0714772e-01f,
     -6.811109e-02f,  -4.2498384e-02f,  -2.6230553e-02f, -1.608698e-02f,
     -9.8310895e-03f, -5.9871688e-03f,  -3.6284253e-03f, -2.2126038e-03f,
     -1.3544572e-03f, -8.095288e-04f,   -5.0636707e-04f, -3.1192452e-04f,
     -1.9050631e-04f, -1.08476655e-04f, -7.8935314e-05f, -3.7717105e-05f,
     -2.947716e-05f,  -1.6256634e-05f,  -4.3843665e-06f, -5.5342034e-06f,
     -3.8617185e-07f, 2.7697143e-07f,   -9.110423e-06f,  0.0f},
    {-3.3335564e-01f, -2.5699386e-01f, -9.421926e-02f, 4.1809127e-02f,
     1.0359764e-01f,  1.0830742e-01f,  8.781656e-02f,  6.292103e-02f,
     4.2109285e-02f,  2.7087968e-02f,  1.7021086e-02f, 1.0546535e-02f,
     6.479877e-03f,   3.961113e-03f,   2.4139998e-03f, 1.4683728e-03f,
     8.9214736e-04f,  5.41697e-04f,    3.287561e-04f,  1.9947841e-04f,
     1.2102015e-04f,  7.341492e-05f,   4.4530494e-05f, 2.7011432e-05f,
     1.6383585e-05f,  9.937379e-06f,   6.0274347e-06f, 3.6558063e-06f,
     2.2173788e-06f,  1.3449197e-06f,  8.1571835e-07f, 0.0f},
    {4.727998e-04f,   1.381454e-01f,    1.6373551e-01f,  9.940958e-02f,
     2.8791754e-02f,  -1.19720865e-02f, -2.434973e-02f,  -2.2991478e-02f,
     -1.7782127e-02f, -1.3062585e-02f,  -8.423208e-03f,  -4.8102555e-03f,
     -2.2996492e-03f, -1.3582238e-03f,  -1.5716549e-03f, -4.0407048e-04f,
     4.718606e-04f,   -5.055509e-04f,   6.6172605e-04f,  7.031712e-04f,
     5.088398e-04f,   -1.4232816e-04f,  7.505678e-04f,   -1.9199801e-04f,
     3.039824e-04f,   8.103232e-05f,    -2.9966517e-04f, 1.3786012e-06f,
     -1.8838634e-04f, -1.4682577e-04f,  5.019859e-04f,   0.0f},
    {1.2998603e-01f,  7.428349e-02f,   -2.569634e-02f,  -6.373549e-02f,
     -4.5851104e-02f, -1.9096483e-02f, -2.7175657e-03f, 3.7015704e-03f,
     4.7603794e-03f,  3.9521023e-03f,  2.8520334e-03f,  1.9105294e-03f,
     1.2296857e-03f,  7.6952524e-04f,  4.725716e-04f,   2.9071924e-04f,
     1.7862684e-04f,  1.0804661e-04f,  6.631628e-05f,   4.0271643e-05f,
     2.435518e-05f,   1.4670689e-05f,  8.996188e-06f,   5.406288e-06f,
     3.2920493e-06f,  1.9940126e-06f,  1.2066844e-06f,  7.3432085e-07f,
     4.447275e-07f,   2.6943368e-07f,  1.6445249e-07f,  0.0f},
};

// What a loop of few sums holds in registers: the table's numbers for c below 4. Loaded for every
// vector they would be six of the sixteen loads of its tanh, which takes fifteen slots.
struct TanhNumbers {
  Vec low[6];
};
static FXFAST_INLINE TanhNumbers tanh_numbers() {
  TanhNumbers numbers;
#pragma GCC unroll 6
  for (int power = 0; power < 6; ++power) numbers.low[power] = in_register(load(tanh_table[power]));
  return numbers;
}

template <bool kHeld>
static FXFAST_INLINE Vec tanh_number(int power, IntVec index, const TanhNumbers& numbers) {
  const auto* of_power = (const UnalignedVec*)tanh_table[power];
  Vec value;
  if constexpr (kHeld) {
    __asm__("vmovdqa64 %1, %0\n\tvpermi2ps %3, %2, %0"
            : "=&v"(value)
            : "v"(index), "v"(numbers.low[power]), "m"(of_power[1]));
  } else {
    // In memory by name, or the compiler holds the table in registers and spills sums.
    __asm__("vmovaps %2, %0\n\tvpermt2ps %3, %1, %0"
            : "=&v"(value)
            : "v"(index), "m"(of_power[0]), "m"(of_power[1]));
  }
  return value;
}

// Every other constant comes from memory, so that it takes five registers.
template <bool kHeld>
static FXFAST_INLINE Vec tanh_with(Vec x, const TanhNumbers& numbers) {
  static const float limit = 7.8749995f;  // the last float that rounds to 31/4
  static const float magic = 3145728.0f;  // 1.5 * 2^21: a sum's last bit is 1/4
  static const unsigned sign = 0x80000000u;
  Vec size, shifted, rest;
  __asm__("vrangeps $10, %1%{1to16%}, %2, %0" : "=v"(size) : "m"(limit), "v"(x));
  __asm__("vaddps %1%{1to16%}, %2, %0" : "=v"(shifted) : "m"(magic), "v"(size));
  __asm__("vreduceps $0x20, %1, %0" : "=v"(rest) : "v"(size));
  const IntVec index = (IntVec)shifted;
  Vec value = tanh_number<kHeld>(5, index, numbers);
#pragma GCC unroll 5
  for (int power = 4; power >= 0; --power) {
    value = value * rest + tanh_number<kHeld>(power, index, numbers);
  }
  __asm__("vpternlogd $0xf8, %1%{1to16%}, %2, %0" : "+v"(value) : "m"(sign), "v"(x));
  return value;
}
static FXFAST_INLINE Vec tanh_of(Vec x) { return tanh_with<false>(x, {}); }
