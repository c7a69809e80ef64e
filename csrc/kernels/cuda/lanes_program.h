// The lanes of a dataset that is on the device, as plain data: what the sampler's kernels read.
#pragma once

#include <cstdint>

#include "kernels/cuda/sample_program.h"

namespace fxfast::cuda {

constexpr int kLaneColumns = 6;  // as LaneBatches::Column

// A span; `dry` and `wet` are addresses of the device, `begin` counts the samples of the spans
// before, `start` those of the file.
struct LaneSpan {
  std::uint64_t dry, wet;
  std::uint64_t begin, length;
  std::int64_t file, start;
};

struct LanePlan {
  std::uint64_t lanes, segment, chunk, warm_up, seed;  // segment 0: lanes are parts of everything
  std::uint64_t rows, first_lane;                      // lanes of this rank
  std::uint64_t whole_steps;                           // of an epoch without segments
  const LaneSpan* spans;
  std::uint64_t* first;  // (span_count + 1) segments, or chunks, before each span of this epoch
  const float* knobs;    // (files, knob_count)
  std::int32_t span_count, knob_count, is_int16, stagger;
};

struct LaneState {
  std::uint64_t epoch, number;  // of the next batch
  std::uint64_t segments, steps;
  SampleOrder phases, order;
};

struct LaneRun {
  const LanePlan* plan;
  LaneState* state;
  float *x, *y, *knobs;
  std::int64_t* info;
  // Of a team: so many rows, and so many samples of each.
  std::int32_t team_rows, team_samples;
};

struct LaneStep {
  const LanePlan* plan;
  LaneState* state;
  std::int32_t next;
  std::uint64_t epoch, number;
};

}  // namespace fxfast::cuda
