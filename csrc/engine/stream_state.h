// The history of one stream: plain bytes, so that it can be a tensor, be saved and restored.
//
// Layout: StateHeader | the lines. A line has one row per channel; `position` samples of the
// current stretch follow the history, and when a stretch is full the newest history moves back to
// the start of its row (amortised, no ring to wrap around). A line whose history nobody reads
// holds the current block only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/packed_plan.h"
#include "kernels/kernel_table.h"

namespace fxfast {

struct StateHeader {
  std::uint64_t fingerprint;  // of the plan
  std::uint32_t position;     // samples after the history in every line
  std::uint32_t reserved[13];
};
static_assert(sizeof(StateHeader) == kCacheLineBytes);

// Streams that start a whole number of these samples apart give the same bits.
std::int64_t grid_samples(const PlanView& plan);
// After so many samples, a whole number of the grid, nothing before them changes a bit, but for
// recurrent layers.
std::int64_t warm_up_samples(const PlanView& plan);

// Writes the state of a stream that has heard silence for ever. `state` holds
// plan.state_bytes() bytes. Not zero: biases make activations non-zero.
void settle(const PlanView& plan, const KernelTable& kernels, std::byte* state) noexcept;

// Throws InputError unless `state` of `bytes` bytes belongs to the plan.
void check_state(const PlanView& plan, const std::byte* state, std::size_t bytes);

}  // namespace fxfast
