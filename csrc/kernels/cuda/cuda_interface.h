// The C interface of the CUDA kernels, and of their stand-in on the CPU: raw pointers and a stream.
// Functions that return int return 0 or an error for fxfast_cuda_error. Nothing but
// fxfast_cuda_wait synchronises.
#pragma once

#ifdef _WIN32
#define FXFAST_CUDA_API extern "C" __declspec(dllexport)
#else
#define FXFAST_CUDA_API extern "C" __attribute__((visibility("default")))
#endif

struct FxfastCudaDevice {
  int multiprocessors;
  int shared_bytes;  // that one team may use
  int major, minor;  // compute capability
};

// Pointers of the device; see CudaRun.
struct FxfastCudaRun {
  const void* plan;
  const void* jobs;
  const float* input;
  const float* knobs;
  float* output;
  float* states;
  float* team_states;
  int job_count;
};

FXFAST_CUDA_API const char* fxfast_cuda_error(int status);
FXFAST_CUDA_API int fxfast_cuda_device_count(int* count);
FXFAST_CUDA_API int fxfast_cuda_use(int device);
FXFAST_CUDA_API int fxfast_cuda_used(int* device);
// Memory of the current device, and pinned memory of the host.
FXFAST_CUDA_API int fxfast_cuda_allocate(void** memory, long long bytes);
FXFAST_CUDA_API int fxfast_cuda_free(void* memory);
FXFAST_CUDA_API int fxfast_cuda_allocate_pinned(void** memory, long long bytes);
FXFAST_CUDA_API int fxfast_cuda_free_pinned(void* memory);
// Copies between host and device, in either direction, after what the stream holds.
FXFAST_CUDA_API int fxfast_cuda_copy(void* to, const void* from, long long bytes, void* stream);
FXFAST_CUDA_API int fxfast_cuda_new_stream(void** stream);
FXFAST_CUDA_API int fxfast_cuda_free_stream(void* stream);
FXFAST_CUDA_API int fxfast_cuda_wait(void* stream);
// The code of fxfast_cuda_allocate where there is no more memory.
FXFAST_CUDA_API int fxfast_cuda_out_of_memory();
FXFAST_CUDA_API int fxfast_cuda_device(int device, FxfastCudaDevice* out);
// Makes the kernel of a plan ready on the current device; how many teams a multiprocessor holds.
FXFAST_CUDA_API int fxfast_cuda_prepare(int threads, int register_rows, int shared_bytes,
                                        int* teams);
FXFAST_CUDA_API int fxfast_cuda_play(const FxfastCudaRun* run, int teams, int threads,
                                     int register_rows, int shared_bytes, void* stream);
// The sampler (sample_program.h): queues the present batch of a state; `run` is a SampleRun in
// memory of the host, its pointers of the device.
FXFAST_CUDA_API int fxfast_cuda_sample(const void* run, int teams, void* stream);
// Queues the step to a batch of an epoch or, with `next`, to the one after the present.
FXFAST_CUDA_API int fxfast_cuda_go_to_batch(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void* stream);
FXFAST_CUDA_API int fxfast_cuda_sample_state_bytes();
// The same of lanes (lanes_program.h); `run` is a LaneRun.
FXFAST_CUDA_API int fxfast_cuda_sample_lanes(const void* run, int teams, void* stream);
FXFAST_CUDA_API int fxfast_cuda_go_to_lanes(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void* stream);
FXFAST_CUDA_API int fxfast_cuda_lane_state_bytes();
// Multiply-adds alone, to measure the peak; how many operations they are (two each). `out` is
// memory of the device.
FXFAST_CUDA_API int fxfast_cuda_burst(int teams, float* out, double* operations, void* stream);
