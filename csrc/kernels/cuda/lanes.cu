// The kernels of lanes and their launch.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_interface.h"
#include "kernels/cuda/lanes.cuh"

namespace fxfast::cuda {
namespace {

__global__ void __launch_bounds__(kSampleThreads, 4) lanes(LaneRun run) { sample_lanes(run); }

__global__ void __launch_bounds__(kSampleThreads) go_to(LaneStep step) { go_to_lanes(step); }

}  // namespace
}  // namespace fxfast::cuda

using namespace fxfast::cuda;

FXFAST_CUDA_API int fxfast_cuda_sample_lanes(const void* run, int teams, void* stream) {
  lanes<<<teams, kSampleThreads, kMostSampleRows * sizeof(LaneRow),
          static_cast<cudaStream_t>(stream)>>>(*static_cast<const LaneRun*>(run));
  return cudaGetLastError();
}

FXFAST_CUDA_API int fxfast_cuda_go_to_lanes(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void* stream) {
  const LaneStep step{static_cast<const LanePlan*>(plan), static_cast<LaneState*>(state), next,
                      epoch, number};
  go_to<<<1, kSampleThreads, 0, static_cast<cudaStream_t>(stream)>>>(step);
  return cudaGetLastError();
}

FXFAST_CUDA_API int fxfast_cuda_lane_state_bytes() { return sizeof(LaneState); }
