// The kernels and their launch, behind a C interface: no torch, no C++ types.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_interface.h"
#include "kernels/cuda/play.cuh"

namespace fxfast::cuda {
namespace {

// Of a multiprocessor.
constexpr int teams_of(int most_rows) { return most_rows == kFewRows ? kFewRowsTeams : 1; }

// The columns of kStacks3 do not fit the registers there: plans for such devices do without it.
template <int kMostRows>
__device__ constexpr bool is_missing() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  return kMostRows == kStacks3;
#else
  return false;
#endif
}

template <int kMostRows>
__global__ void __launch_bounds__(threads_of(kMostRows), teams_of(kMostRows)) play(CudaRun run) {
  if constexpr (!is_missing<kMostRows>()) play_jobs<kMostRows>(run);
}

// Layers of more units than kConvThreads.
__global__ void __launch_bounds__(kMaxRecurrentThreads) play_wide(CudaRun run) {
  play_jobs<kWideCells>(run);
}

using Kernel = void (*)(CudaRun);

Kernel kernel_of(int threads, int register_rows) {
  if (register_rows == kStagedConvs) return play<kStagedConvs>;
  if (register_rows == kStacks3) return play<kStacks3>;
  if (register_rows == kStacks4) return play<kStacks4>;
  if (register_rows == kStacks8) return play<kStacks8>;
  if (register_rows == kMixed) return play<kMixed>;
  if (register_rows < 0) return play<kNoCells>;
  if (threads > kConvThreads) return play_wide;
  if (register_rows > kFewRows) return play<kManyRows>;
  return register_rows > 0 ? play<kFewRows> : play<0>;
}

}  // namespace
}  // namespace fxfast::cuda

using namespace fxfast::cuda;

FXFAST_CUDA_API const char* fxfast_cuda_error(int status) {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}

FXFAST_CUDA_API int fxfast_cuda_device(int device, FxfastCudaDevice* out) {
  cudaDeviceProp properties;
  const cudaError_t status = cudaGetDeviceProperties(&properties, device);
  if (status != cudaSuccess) return status;
  out->multiprocessors = properties.multiProcessorCount;
  out->shared_bytes = static_cast<int>(properties.sharedMemPerBlockOptin);
  out->major = properties.major;
  out->minor = properties.minor;
  return cudaSuccess;
}

FXFAST_CUDA_API int fxfast_cuda_prepare(int threads, int register_rows, int shared_bytes,
                                        int* teams) {
  const Kernel kernel = kernel_of(threads, register_rows);
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (status != cudaSuccess) return status;
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(teams, kernel, threads,
                                                       static_cast<std::size_t>(shared_bytes));
}

FXFAST_CUDA_API int fxfast_cuda_play(const FxfastCudaRun* run, int teams, int threads,
                                     int register_rows, int shared_bytes, void* stream) {
  const CudaRun device_run{static_cast<const std::byte*>(run->plan),
                           static_cast<const CudaJob*>(run->jobs),
                           run->input,
                           run->knobs,
                           run->output,
                           run->states,
                           run->team_states,
                           run->job_count};
  kernel_of(threads, register_rows)<<<teams, threads, static_cast<std::size_t>(shared_bytes),
                                      static_cast<cudaStream_t>(stream)>>>(device_run);
  return cudaGetLastError();
}

FXFAST_CUDA_API int fxfast_cuda_device_count(int* count) { return cudaGetDeviceCount(count); }

FXFAST_CUDA_API int fxfast_cuda_use(int device) { return cudaSetDevice(device); }

FXFAST_CUDA_API int fxfast_cuda_used(int* device) { return cudaGetDevice(device); }

FXFAST_CUDA_API int fxfast_cuda_allocate(void** memory, long long bytes) {
  const cudaError_t status = cudaMalloc(memory, static_cast<std::size_t>(bytes));
  // A failed allocation is not an error of later launches.
  if (status == cudaErrorMemoryAllocation) cudaGetLastError();
  return status;
}

FXFAST_CUDA_API int fxfast_cuda_free(void* memory) { return cudaFree(memory); }

FXFAST_CUDA_API int fxfast_cuda_allocate_pinned(void** memory, long long bytes) {
  const cudaError_t status = cudaMallocHost(memory, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) cudaGetLastError();
  return status;
}

FXFAST_CUDA_API int fxfast_cuda_free_pinned(void* memory) { return cudaFreeHost(memory); }

FXFAST_CUDA_API int fxfast_cuda_copy(void* to, const void* from, long long bytes, void* stream) {
  return cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault,
                         static_cast<cudaStream_t>(stream));
}

FXFAST_CUDA_API int fxfast_cuda_new_stream(void** stream) {
  return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
}

FXFAST_CUDA_API int fxfast_cuda_free_stream(void* stream) {
  return cudaStreamDestroy(static_cast<cudaStream_t>(stream));
}

FXFAST_CUDA_API int fxfast_cuda_wait(void* stream) {
  return cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
}

FXFAST_CUDA_API int fxfast_cuda_out_of_memory() { return cudaErrorMemoryAllocation; }
