// What device code needs: CUDA, or its stand-in on the CPU, where the threads of a block are
// fibers. Kernels written in these words run in tests without a GPU, thread by thread as they would
// there.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define FXFAST_DEVICE __device__ __forceinline__
#define FXFAST_GLOBAL __global__

namespace fxfast::cuda {

FXFAST_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
FXFAST_DEVICE int thread_count() { return static_cast<int>(blockDim.x); }
FXFAST_DEVICE int team_index() { return static_cast<int>(blockIdx.x); }
FXFAST_DEVICE int team_count() { return static_cast<int>(gridDim.x); }
FXFAST_DEVICE void wait_for_all() { __syncthreads(); }
FXFAST_DEVICE void wait_for_warp() { __syncwarp(); }
FXFAST_DEVICE float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FXFAST_DEVICE float as_float(std::int32_t bits) { return __int_as_float(bits); }
FXFAST_DEVICE std::int32_t as_bits(float x) { return __float_as_int(x); }
FXFAST_DEVICE float nearest(float x) { return rintf(x); }
FXFAST_DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FXFAST_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FXFAST_DEVICE std::uint64_t load_word(std::uint64_t address) {
  return __ldg(reinterpret_cast<const unsigned long long*>(address));
}
// What it was; what the thread, and those that it has waited for, read before is read before.
FXFAST_DEVICE std::uint32_t count_up(std::uint32_t& counter) {
  __threadfence();
  return atomicAdd(&counter, 1u);
}
FXFAST_DEVICE float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
FXFAST_DEVICE void store4(float* to, const float4& value) {
  *reinterpret_cast<float4*>(to) = value;
}
// To shared memory, from memory that is not: done for the thread after wait_for_copies, and for
// all when they have waited for each other after that.
FXFAST_DEVICE void copy_async(float* to, const float* from) {
  const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(place), "l"(from) : "memory");
}
// Both at a multiple of 16 bytes.
FXFAST_DEVICE void copy_four_async(float* to, const float* from) {
  const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from) : "memory");
}
FXFAST_DEVICE void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
FXFAST_DEVICE float* shared_memory() {
  extern __shared__ float4 fxfast_shared[];
  return reinterpret_cast<float*>(fxfast_shared);
}

}  // namespace fxfast::cuda

#else
#include <cmath>
#include <cstring>

#define FXFAST_DEVICE inline
#define FXFAST_GLOBAL inline

struct float4 {
  float x, y, z, w;
};

namespace fxfast::cuda {

// Set by the stand-in's scheduler for the fiber that runs.
struct StandInThread {
  int thread, threads, team, teams;
  float* shared;
  void (*wait)(bool for_warp);
  bool is_misaligned;  // whether an address was, of a read of several floats
  bool waits_for_ever;
};
extern thread_local StandInThread stand_in;

inline int thread_index() { return stand_in.thread; }
inline int thread_count() { return stand_in.threads; }
inline int team_index() { return stand_in.team; }
inline int team_count() { return stand_in.teams; }
inline void wait_for_all() { stand_in.wait(false); }
inline void wait_for_warp() { stand_in.wait(true); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
// Of the device's fast functions the PTX manual gives bounds: one unit in the last place for the
// reciprocal, 2^-22 of the value for the exponential. Here the error goes from one bound to the
// other, by the bits of the argument.
inline double within(double bound, float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits = (bits ^ bits >> 15) * 0x2c1b3c6du;
  bits = (bits ^ bits >> 12) * 0x297a2d39u;
  return 1.0 + bound * ((bits ^ bits >> 15) / 2147483648.0 - 1.0);
}
inline float reciprocal(float x) { return static_cast<float>(within(0x1p-24, x) / double{x}); }
inline float exp2_fast(float x) {
  const double y = std::exp2(double{x}) * within(0x1p-22, x);
  return y < 0x1p-126 ? 0.0f : static_cast<float>(y);
}
inline void store4(float* to, const float4& value) {
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof(float4) != 0) stand_in.is_misaligned = true;
  std::memcpy(to, &value, sizeof(value));
}
inline float as_float(std::int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline std::int32_t as_bits(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float nearest(float x) { return std::nearbyint(x); }
inline std::uint64_t load_word(std::uint64_t address) {
  std::uint64_t value;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof(value));
  return value;
}
inline std::uint32_t count_up(std::uint32_t& counter) { return counter++; }
inline float4 load4(const float* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(float4) != 0) stand_in.is_misaligned = true;
  float4 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
// Copies are there when they are waited for, and not before.
void copy_async(float* to, const float* from);
void copy_four_async(float* to, const float* from);
void wait_for_copies();
inline float* shared_memory() { return stand_in.shared; }
inline float fminf(float a, float b) { return b < a ? b : a; }
inline float fmaxf(float a, float b) { return b > a ? b : a; }
inline float fabsf(float a) { return std::fabs(a); }
inline float copysignf(float a, float b) { return std::copysign(a, b); }

}  // namespace fxfast::cuda
#endif
