// Long filters on CUDA: the first taps are a convolution, the others go by transforms (tail.cuh).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace fxfast {

// Up to here a direct sum of all taps, which has no state and plays parts of a stream side by side.
constexpr int kMaxCudaFilterTaps = 8192;

bool has_tail(const Op& op);
// The program with the first taps of such filters as operations in front of them.
Program with_heads(const Program& program);
// The first taps of such a filter, with its bias.
Op head_of(const Op& op);
std::int64_t tail_partitions(std::int64_t taps);
std::int64_t tail_state_floats(std::int64_t taps);
// Spectra of the taps, partition by partition, and the twiddles of the transforms.
std::vector<float> tail_responses(const Op& op);
std::vector<float> tail_twiddles();

}  // namespace fxfast
