// The inner loops of the sampler for one instruction set: FXFAST_VECTOR_FLOATS lanes.
// Includes nothing of the standard library, as kernels_body.inl, for the same reason.

namespace FXFAST_ISA_NAMESPACE {

constexpr std::size_t kLanes = FXFAST_VECTOR_FLOATS;
constexpr std::size_t kLineBytes = 64;

typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef std::uint64_t Longs __attribute__((vector_size(8 * kLanes)));
typedef std::uint64_t AnyLongs __attribute__((vector_size(8 * kLanes), aligned(8), may_alias));
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef float AnyFloats __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef std::int16_t Shorts __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));

#define FXFAST_INLINE inline __attribute__((always_inline))

// "lowbias32" of hash-prospector: a bijection of 32 bits with low bias.
template <typename T>
static FXFAST_INLINE T mix(T x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

// T: one word or a vector of words.
template <typename T>
static FXFAST_INLINE void rounds(const FeistelKeys& keys, T& high, T& low) {
  const std::uint32_t high_mask = (1u << keys.high_bits) - 1;
  const std::uint32_t low_mask = (1u << keys.low_bits) - 1;
  for (int r = 0; r < FeistelKeys::kRounds; r += 2) {
    high ^= mix(low + keys.round[r]) & high_mask;
    low ^= mix(high + keys.round[r + 1]) & low_mask;
  }
}

static void feistel(const FeistelKeys& keys, std::uint64_t* values, std::size_t count) {
  const std::uint64_t low_mask = (std::uint64_t{1} << keys.low_bits) - 1;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Longs value = *(const AnyLongs*)(values + i);
    Words low = __builtin_convertvector(value & low_mask, Words);
    Words high = __builtin_convertvector(value >> keys.low_bits, Words);
    rounds(keys, high, low);
    *(AnyLongs*)(values + i) = __builtin_convertvector(high, Longs) << keys.low_bits |
                               __builtin_convertvector(low, Longs);
  }
  for (; i < count; ++i) {
    auto low = (std::uint32_t)(values[i] & low_mask);
    auto high = (std::uint32_t)(values[i] >> keys.low_bits);
    rounds(keys, high, low);
    values[i] = (std::uint64_t)high << keys.low_bits | low;
  }
}

static FXFAST_INLINE Floats load_row(const float* p) { return *(const AnyFloats*)p; }
static FXFAST_INLINE float load_one(const float* p) { return *p; }
static FXFAST_INLINE Floats load_row(const std::int16_t* p) {
  return __builtin_convertvector(*(const Shorts*)p, Floats) * kInt16Scale;
}
static FXFAST_INLINE float load_one(const std::int16_t* p) { return (float)*p * kInt16Scale; }

// Rows lie anywhere in memory, where no hardware sees the next one coming: what is copied is
// asked for so many bytes before, through the end of one row into the next.
constexpr std::size_t kAheadBytes = 6144, kAheadBytesOfShortRows = 8192;

// A macro, because the compiler takes a function that only prefetches for one without effect.
#define FXFAST_ASK(address) __builtin_prefetch((const void*)(address), 0, 3)

// Copies one row and asks for next_bytes at `next` meanwhile.
template <typename Sample>
static FXFAST_INLINE void copy_row(const Sample* row, std::size_t length, float* out,
                                   const char* next, std::size_t next_bytes) {
  constexpr std::size_t kStep = 4 * kLanes;  // samples
  constexpr std::size_t kStepBytes = kStep * sizeof(Sample);
  std::size_t i = 0, asked = 0;
  for (; i + kStep <= length; i += kStep) {
    for (std::size_t b = 0; b < kStepBytes; b += kLineBytes) FXFAST_ASK(next + asked + b);
    asked += kStepBytes;
    for (std::size_t u = 0; u < kStep; u += kLanes) {
      *(AnyFloats*)(out + i + u) = load_row(row + i + u);
    }
  }
  for (; asked < next_bytes; asked += kLineBytes) FXFAST_ASK(next + asked);
  FXFAST_ASK(next + next_bytes - 1);
  for (; i + kLanes <= length; i += kLanes) *(AnyFloats*)(out + i) = load_row(row + i);
  for (; i < length; ++i) out[i] = load_one(row + i);
}

template <typename Sample>
static FXFAST_INLINE void gather(const void* const* rows, std::size_t count, std::size_t length,
                                 float* out, std::size_t out_stride) {
  const std::size_t bytes = length * sizeof(Sample);
  if (count == 0 || length == 0) return;
  if (bytes <= kAheadBytes) {
    const std::size_t ahead = kAheadBytesOfShortRows / (bytes + kLineBytes) + 1;
    for (std::size_t r = 0; r < ahead && r < count; ++r) {
      for (std::size_t b = 0; b < bytes; b += kLineBytes) FXFAST_ASK((const char*)rows[r] + b);
    }
    for (std::size_t r = 0; r < count; ++r, out += out_stride) {
      const void* next = rows[r + ahead < count ? r + ahead : count - 1];
      copy_row((const Sample*)rows[r], length, out, (const char*)next, bytes);
    }
    return;
  }
  const std::size_t last = kAheadBytes / sizeof(Sample);  // samples at the end of a row
  const std::size_t body = length - last;
  for (std::size_t b = 0; b < kAheadBytes; b += kLineBytes) FXFAST_ASK((const char*)rows[0] + b);
  for (std::size_t r = 0; r < count; ++r, out += out_stride) {
    const auto* row = (const Sample*)rows[r];
    const char* next = (const char*)rows[r + 1 < count ? r + 1 : r];
    copy_row(row, body, out, (const char*)row + kAheadBytes, body * sizeof(Sample));
    copy_row(row + body, last, out + body, next, kAheadBytes);
  }
}

static void gather_float(const void* const* rows, std::size_t count, std::size_t length, float* out,
                         std::size_t out_stride) {
  gather<float>(rows, count, length, out, out_stride);
}
static void gather_int16(const void* const* rows, std::size_t count, std::size_t length, float* out,
                         std::size_t out_stride) {
  gather<std::int16_t>(rows, count, length, out, out_stride);
}

}  // namespace FXFAST_ISA_NAMESPACE
