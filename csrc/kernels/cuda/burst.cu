// The multiply-add peak of a device: chains of multiply-adds in registers, and nothing else.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_interface.h"

namespace fxfast::cuda {
namespace {

constexpr int kThreads = 256, kChains = 16, kRounds = 4096;

__global__ void __launch_bounds__(kThreads) burst(float* out, float factor) {
  float chain[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) chain[i] = static_cast<float>(threadIdx.x + i);
  for (int round = 0; round < kRounds; ++round) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) chain[i] = __fmaf_rn(chain[i], factor, 1.0f);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += chain[i];
  // Never true, but the compiler does not know.
  if (sum == -1.0f) out[0] = sum;
}

}  // namespace
}  // namespace fxfast::cuda

using namespace fxfast::cuda;

FXFAST_CUDA_API int fxfast_cuda_burst(int teams, float* out, double* operations, void* stream) {
  *operations = 2.0 * kThreads * kChains * kRounds * teams;
  burst<<<teams, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(out, 0.5f);
  return cudaGetLastError();
}
