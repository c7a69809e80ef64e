// tanh from a table, for AVX-512: no division, and every value within one rounding and a quarter.
// Included by simd.h, under its rules.
//
// abs(x) below 7.875 is the nearest multiple c of 1/4 and the rest t: tanh(c + t) is a polynomial
// of degree 5 in t, whose numbers stand in tanh_table[power][4 c]. Those of c = 0 begin with 0, so
// small values are exact relative to themselves; the last ones are a line that ends at 1.
//
// The last two numbers share one: as it stands it is that of t^5, and shifted by 15 bits that of
// t^4. A shift goes to the other port than a look into the table, and t^4 is so small that the
// other numbers make up for what it lacks. Found by weighted least squares, each number rounded
// before the next was sought, the shared one first; 0.4 ulp RMS, 1.2 at most below 7.6, 5 at most
// between there and 9, where float32 has only ones.
alignas(64) static const float tanh_table[5][32] = {
    {0.0f,        0.24491866f, 0.46211717f, 0.63514894f, 0.7615942f,  0.84828365f, 0.90514827f,
     0.94137555f, 0.9640276f,  0.9780261f,  0.9866143f,  0.99185973f, 0.9950548f,  0.99699765f,
     0.9981779f,  0.99889445f, 0.9993293f,  0.99959314f, 0.99975324f, 0.99985033f, 0.9999092f,
     0.9999449f,  0.9999666f,  0.99997973f, 0.9999877f,  0.99999255f, 0.99999547f, 0.99999726f,
     0.99999833f, 0.999999f,   0.9999994f,  0.99999976f},
    {1.0f,           0.940015f,       0.7864479f,     0.5965858f,     0.41997433f,
     0.28041485f,    1.8070664e-01f,  1.138121e-01f,  7.065082e-02f,  4.3464918e-02f,
     2.6592227e-02f, 1.6214287e-02f,  9.8660365e-03f, 5.9957146e-03f, 3.6408845e-03f,
     2.2098923e-03f, 1.3409506e-03f,  8.135424e-04f,  4.935174e-04f,  2.993625e-04f,
     1.8158324e-04f, 1.10139736e-04f, 6.680457e-05f,  4.0519553e-05f, 2.457655e-05f,
     1.4906502e-05f, 9.041276e-06f,   5.4838215e-06f, 3.3261094e-06f, 2.0173886e-06f,
     1.2236085e-06f, 1.9058953e-06f},
    {1.9268225e-07f,  -0.23021984f,     -0.36343265f,    -0.37891835f,
     -0.3198547f,     -0.23787433f,     -1.6356944e-01f, -1.0714193e-01f,
     -6.811057e-02f,  -4.2507533e-02f,  -2.6234927e-02f, -1.6083252e-02f,
     -9.819704e-03f,  -5.9794206e-03f,  -3.6331934e-03f, -2.2083523e-03f,
     -1.3425124e-03f, -8.1257266e-04f,  -4.9561367e-04f, -3.0146973e-04f,
     -1.8309137e-04f, -1.09848836e-04f, -6.8869296e-05f, -4.0040388e-05f,
     -2.5411864e-05f, -1.5136781e-05f,  -8.2474135e-06f, -5.4924303e-06f,
     -2.824947e-06f,  -1.6262879e-06f,  -2.5680517e-06f, 0.0f},
    {-0.33335817f,   -0.2569956f,    -9.427123e-02f, 4.180883e-02f,
     1.0360871e-01f, 1.0831486e-01f, 8.781723e-02f,  6.292208e-02f,
     4.2109493e-02f, 2.7087994e-02f, 1.7020974e-02f, 1.0546632e-02f,
     6.4801234e-03f, 3.961265e-03f,  2.414026e-03f,  1.4683973e-03f,
     8.9217984e-04f, 5.416915e-04f,  3.2877107e-04f, 1.9948535e-04f,
     1.2102151e-04f, 7.3413285e-05f, 4.4532255e-05f, 2.7011421e-05f,
     1.6383337e-05f, 9.937457e-06f,  6.0275597e-06f, 3.655791e-06f,
     2.2173624e-06f, 1.3449003e-06f, 8.157417e-07f,  0.0f},
    {1.2934946e-01f, 7.445546e-02f,   -2.2520214e-02f, -6.37123e-02f,
     -4.650288e-02f, -1.9466668e-02f, -2.7690877e-03f, 3.623575e-03f,
     4.7446657e-03f, 3.951142e-03f,   2.8605482e-03f,  1.9032748e-03f,
     1.216609e-03f,  7.608831e-04f,   4.7198858e-04f,  2.888776e-04f,
     1.7686123e-04f, 1.0845645e-04f,  6.553967e-05f,   3.992173e-05f,
     2.4252098e-05f, 1.4748473e-05f,  8.907045e-06f,   5.407117e-06f,
     3.2995638e-06f, 1.9882166e-06f,  1.2027036e-06f,  7.354526e-07f,
     4.459519e-07f,  2.7085778e-07f,  1.6336605e-07f,  0.0f},
};

// What a loop of few sums holds in registers: the table's numbers for c below 4. Loaded for every
// vector they would be five of the fourteen loads of its tanh, which takes fifteen slots.
struct TanhNumbers {
  Vec low[5];
};
static FXFAST_INLINE TanhNumbers tanh_numbers() {
  TanhNumbers numbers;
#pragma GCC unroll 5
  for (int power = 0; power < 5; ++power) numbers.low[power] = in_register(load(tanh_table[power]));
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
  Vec value = tanh_number<kHeld>(4, index, numbers);
  IntVec fourth;
  __asm__("vpslld $15, %1, %0" : "=v"(fourth) : "v"(value));
  value = value * rest + (Vec)fourth;
#pragma GCC unroll 4
  for (int power = 3; power >= 0; --power) {
    value = value * rest + tanh_number<kHeld>(power, index, numbers);
  }
  __asm__("vpternlogd $0xf8, %1%{1to16%}, %2, %0" : "+v"(value) : "m"(sign), "v"(x));
  return value;
}
static FXFAST_INLINE Vec tanh_of(Vec x) { return tanh_with<false>(x, {}); }
