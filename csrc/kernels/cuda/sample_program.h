// The windows of a dataset that is on the device, as plain data: what the sampler's kernels read.
#pragma once

#include <cstdint>

namespace fxfast::cuda {

constexpr int kSampleThreads = 256;
constexpr int kMostSampleRows = 64;  // of one team
constexpr std::uint64_t kSampleTable = 4096;

// A span that has a window; `dry` and `wet` are addresses of the device.
struct SampleSpan {
  std::uint64_t first_id;
  std::uint64_t dry, wet;
  std::int64_t file;
};

struct SamplePlan {
  std::uint64_t windows, full_runs, length, stride, run, out_length, seed;
  std::uint64_t batch, share, rank, batches;  // share: windows of a batch on this rank
  const SampleSpan* spans;
  const float* knobs;  // (files, knob_count)
  std::int32_t span_count, knob_count, is_int16, replacement, wraps, reserved;
};

// As KeyedPermutation has it.
struct SampleOrder {
  std::uint64_t n;
  std::uint32_t round[6];
  std::int32_t low_bits, high_bits;
  std::uint16_t table[kSampleTable];
};

struct SampleState {
  std::uint64_t epoch, number;  // of the next batch
  std::uint64_t phase;
  SampleOrder runs, phases;
  std::uint32_t finished;  // teams that have found the rows of the batch
};

struct SampleRun {
  const SamplePlan* plan;
  SampleState* state;
  float *x, *y, *mask, *knobs;  // null where there is none
  std::int64_t* ids;
  // Of a warp: so many rows, at most kWarp, and so many samples of each, a multiple of 4.
  std::int32_t warp_rows, piece_samples;
};

}  // namespace fxfast::cuda
