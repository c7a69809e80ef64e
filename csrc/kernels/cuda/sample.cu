// The sampler's kernels and their launch.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_interface.h"
#include "kernels/cuda/sample.cuh"

namespace fxfast::cuda {
namespace {

// Four teams of a multiprocessor: left to itself the compiler fits six, and spills.
__global__ void __launch_bounds__(kSampleThreads, 4) sample(SampleRun run) { sample_rows(run); }

__global__ void go_to(const SamplePlan* plan, SampleState* state, bool next, std::uint64_t epoch,
                      std::uint64_t number) {
  go_to_batch(*plan, *state, next, epoch, number);
}

}  // namespace
}  // namespace fxfast::cuda

using namespace fxfast::cuda;

FXFAST_CUDA_API int fxfast_cuda_sample(const void* run, int teams, void* stream) {
  sample<<<teams, kSampleThreads, kSampleThreads * sizeof(SampleRow),
           static_cast<cudaStream_t>(stream)>>>(*static_cast<const SampleRun*>(run));
  return cudaGetLastError();
}

FXFAST_CUDA_API int fxfast_cuda_go_to_batch(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void* stream) {
  go_to<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(static_cast<const SamplePlan*>(plan),
                                                        static_cast<SampleState*>(state), next != 0,
                                                        epoch, number);
  return cudaGetLastError();
}

FXFAST_CUDA_API int fxfast_cuda_sample_state_bytes() { return sizeof(SampleState); }
