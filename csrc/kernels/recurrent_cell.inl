// The functions of the recurrent cells, on vectors V of any width.
// Included inside the namespace of an instruction set, before recurrent_body.inl.

template <typename V>
using Ints = decltype(V{} < V{});

template <typename V>
static FXFAST_INLINE V load_as(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <typename V>
static FXFAST_INLINE void store_as(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// The compiler may fuse a product with a sum, and in `a * b + c * d` choose which; every kernel
// has to choose the same, or a stream's bits would depend on its neighbours.
template <typename V>
static FXFAST_INLINE V settled_value(V v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__SSE2__)
  __asm__("" : "+x"(v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(v));
#endif
  return v;
}

template <typename V>
static FXFAST_INLINE V limited(V w) {
  constexpr float kLimit = 40.0f;  // products of two exponentials stay far inside the range
#if defined(__AVX512DQ__)
  // The smaller magnitude of the two, with the sign of the first.
  const V limit = V{} + kLimit;
  __asm__("vrangeps $2, %2, %1, %0" : "=v"(w) : "v"(w), "v"(limit));
  return w;
#elif defined(__AVX__)
  const V high = V{} + kLimit, low = V{} - kLimit;
  __asm__("vmaxps %2, %1, %0" : "=v"(w) : "v"(w), "v"(low));
  __asm__("vminps %2, %1, %0" : "=v"(w) : "v"(w), "v"(high));
  return w;
#else
  w = w > -kLimit ? w : V{} - kLimit;
  return w < kLimit ? w : V{} + kLimit;
#endif
}

// 2^w = rising / falling with w = n + r, rising = 2^n (u + r), falling = u - r and
// u = r / tanh(r ln2 / 2), an even function: three products for 2^w to a rounding.
template <typename V>
struct Exp2 {
  V u, r, rising, falling;
  Ints<V> exponent;  // n, where a float has its exponent
};

// w without the nearest integer. One instruction, where there is one, takes w as it is (infinity
// gives zero), so that the clamp is not in the way.
template <typename V>
static FXFAST_INLINE V fraction_of(V any, V clamped, V rounded) {
#ifdef __AVX512DQ__
  (void)clamped, (void)rounded;
  V r;
  __asm__("vreduceps $0, %1, %0" : "=v"(r) : "v"(any));
  return r;
#else
  (void)any;
  return clamped - rounded;
#endif
}

template <typename V>
static FXFAST_INLINE Exp2<V> exp2_of(V any) {
  const V w = limited(any);
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
  const V magic = V{} + 12582912.0f;
  const V shifted = w + magic;
  Exp2<V> e;
  e.r = fraction_of(any, w, shifted - magic);
  e.exponent = (Ints<V>)shifted << 23;
  const V r2 = e.r * e.r;
  e.u = (r2 * -0.00092114194f + 0.11552419f) * r2 + 2.885390082f;
  e.rising = (V)((Ints<V>)(e.u + e.r) + e.exponent);
  e.falling = e.u - e.r;
  return e;
}

// sigmoid = rising / both, tanh = difference / both (where both is the sum of rising and falling).
template <typename V>
static FXFAST_INLINE V both_of(const Exp2<V>& e) {
  return e.rising + e.falling;
}

// scale * (rising - falling), arranged so that nothing cancels near zero.
template <typename V>
static FXFAST_INLINE V difference_of(const Exp2<V>& e, V scale) {
  const V s = (V)((Ints<V>)scale + e.exponent);
  return (s - scale) * e.u + settled_value((s + scale) * e.r);
}

// The cells, in steps so that a kernel may run them between the sums of other streams. `memory` is
// the c of an LSTM, which stays times 2 / ln2 as tanh wants it, or the h of a GRU. The gates of an
// LSTM under a sigmoid have the opposite sign.
constexpr float kTanhScale = 2.885390082f;  // 2 / ln2

template <Cell kCell, typename V>
struct CellSteps;

#if defined(__AVX512DQ__)
// 2^w from the fraction above the integer below: five products, one instruction for the exponent.
template <typename V>
static FXFAST_INLINE V scaled(V v, V exponent) {
  V result;
  __asm__("vscalefps %2, %1, %0" : "=v"(result) : "v"(v), "v"(exponent));
  return result;
}
template <typename V>
struct Power {
  V r, power;

  template <int kStep>
  FXFAST_INLINE void run(V w) {
    if constexpr (kStep == 0) {
      __asm__("vreduceps $1, %1, %0" : "=v"(r) : "v"(w));
    } else if constexpr (kStep == 1) {
      power = r * 0.00186713005f + 0.00901703071f;
    } else if constexpr (kStep == 2) {
      power = power * r + 0.0557999127f;
    } else if constexpr (kStep == 3) {
      power = power * r + 0.240164444f;
    } else if constexpr (kStep == 4) {
      power = power * r + 0.693151295f;
    } else if constexpr (kStep == 5) {
      power = power * r + 1.0f;
    } else {
      power = scaled(power, limited(w));
    }
  }
};

// tanh = over / under of w times 2 / ln2. Nothing cancels near zero: there s is 1 and s u - u is 0.
template <typename V>
struct TanhSteps {
  V r, s, u, over, under;

  template <int kStep>
  FXFAST_INLINE void run(V w) {
    if constexpr (kStep == 0) {
      __asm__("vreduceps $0, %1, %0" : "=v"(r) : "v"(w));
    } else if constexpr (kStep == 1) {
      s = limited(w) - r;
      under = r * r;
    } else if constexpr (kStep == 2) {
      s = scaled(V{} + 1.0f, s);
      u = under * -0.00092114194f + 0.11552419f;
    } else if constexpr (kStep == 3) {
      u = u * under + kTanhScale;
      over = settled_value(s * r + r);
      under = settled_value(s * r - r);
    } else if constexpr (kStep == 4) {
      r = settled_value(s * u - u);
      s = settled_value(s * u + u);
    } else {
      over = over + r;
      under = under + s;
    }
  }
};

// With I, F, O the powers of the gates, sigmoid = 1 / (1 + I), and tanh(g) = p / q,
//   c = (c (1 + I) q + (1 + F) p) / ((1 + F) (1 + I) q)  and  h = over / ((1 + O) under).
// A step is about as long as one multiply-add waits for another: where a kernel spreads the steps
// over its sums, no operation waits in the processor's queue for its turn.
template <typename V>
struct CellSteps<Cell::kLstm, V> {  // gates i, g, f, o
  static constexpr int kSteps = 21, kMemoryStep = 10;
  Power<V> i, f, o;
  TanhSteps<V> g;

  template <int kStep>
  FXFAST_INLINE void run(const V (&gates)[4], V& memory, V& h) {
    if constexpr (kStep <= 6) {
      i.template run<kStep>(gates[0]);
      if constexpr (kStep < 6) g.template run<kStep>(gates[1]);
      f.template run<kStep>(gates[2]);
    } else if constexpr (kStep == 7) {
      i.power = settled_value(i.power * g.under + g.under);
      g.over = g.over * kTanhScale;
    } else if constexpr (kStep == 8) {
      g.over = settled_value(f.power * g.over + g.over);
      g.under = settled_value(f.power * i.power + i.power);
    } else if constexpr (kStep == 9) {
      g.over = settled_value(memory * i.power + g.over);
      o.template run<0>(gates[3]);
    } else if constexpr (kStep == 10) {
      memory = g.over = settled_value(g.over / g.under);
      o.template run<1>(gates[3]);
    } else if constexpr (kStep <= 13) {
      o.template run<kStep - 9>(gates[3]);
    } else if constexpr (kStep <= 19) {
      if constexpr (kStep <= 15) o.template run<kStep - 9>(gates[3]);
      if constexpr (kStep == 14) f.power = g.over;
      g.template run<kStep - 14>(f.power);
    } else {
      h = g.over / settled_value(o.power * g.under + g.under);
    }
  }
};
#else
template <typename V>
struct CellSteps<Cell::kLstm, V> {  // gates i, g, f, o
  static constexpr int kSteps = 8, kMemoryStep = 4;
  V a, b, p, q;

  template <int kStep>
  FXFAST_INLINE void run(const V (&gates)[4], V& memory, V& h) {
    if constexpr (kStep == 0) {
      const Exp2<V> i = exp2_of(gates[0]);
      a = i.falling, b = both_of(i);
    } else if constexpr (kStep == 1) {
      const Exp2<V> g = exp2_of(gates[1]);
      p = difference_of(g, V{} + kTanhScale), q = both_of(g);
    } else if constexpr (kStep == 2) {
      a = settled_value((a * p) / (b * q));
    } else if constexpr (kStep == 3) {
      const Exp2<V> f = exp2_of(gates[2]);
      b = f.falling / both_of(f);
    } else if constexpr (kStep == 4) {
      memory = b = settled_value(b * memory + a);
    } else if constexpr (kStep == 5) {
      const Exp2<V> o = exp2_of(gates[3]);
      a = o.falling / both_of(o);
    } else if constexpr (kStep == 6) {
      const Exp2<V> t = exp2_of(b);
      p = difference_of(t, a), q = both_of(t);
    } else {
      h = p / q;
    }
  }
};
#endif

template <typename V>
struct CellSteps<Cell::kGru, V> {  // gates r, z, nx, nh
  static constexpr int kSteps = 8, kMemoryStep = -1;
  V a, z, p, q;

  template <int kStep>
  FXFAST_INLINE void run(const V (&gates)[4], V& memory, V& h) {
    constexpr float kSigmoidScale = 1.442695041f;
    if constexpr (kStep == 0) {
      const Exp2<V> r = exp2_of(settled_value(gates[0] * kSigmoidScale));
      a = r.rising / both_of(r);
    } else if constexpr (kStep == 1) {
      a = settled_value(a * gates[3] + gates[2]);
    } else if constexpr (kStep == 2) {
      const Exp2<V> e = exp2_of(settled_value(gates[1] * kSigmoidScale));
      z = e.rising / both_of(e);
    } else if constexpr (kStep == 4) {
      const Exp2<V> n = exp2_of(settled_value(a * kTanhScale));
      const V one = V{} + 1.0f, s = (V)((Ints<V>)one + n.exponent);
      p = difference_of(n, one);
      q = (s + one) * n.u + settled_value((s - one) * n.r);  // one rounding less than both_of
    } else if constexpr (kStep == 6) {
      p = settled_value(p / q);
    } else if constexpr (kStep == 7) {
      // Not (1 - z) n + z h: here an error of z weighs no more than h differs from n.
      h = z * (memory - p) + p;
    }
  }
};

template <int kStep, Cell kCell, typename V>
static FXFAST_INLINE void steps_from(CellSteps<kCell, V>& cell, const V (&gates)[4], V& memory,
                                     V& h) {
  if constexpr (kStep < CellSteps<kCell, V>::kSteps) {
    cell.template run<kStep>(gates, memory, h);
    steps_from<kStep + 1>(cell, gates, memory, h);
  }
}

template <Cell kCell, typename V>
static FXFAST_INLINE V whole_cell(const V (&gates)[4], V& memory) {
  CellSteps<kCell, V> cell;
  V h;
  steps_from<0>(cell, gates, memory, h);
  return h;
}
