// The history of one stream: plain bytes, so that it can be a tensor, be saved and restored.
//
// Layout: StateHeader | the lines. A line has one row per channel; `position` samples of the
// current stretch follow the history, and when a stretch is full the newest history moves back to
// the start of its row (amortised, no ring to wrap around). A line whose history nobody reads
// holds the current block only, and one that spans the grid its history and the current grid.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/packed_plan.h"
#include "kernels/kernel_table.h"

namespace fxfast {

struct StateHeader {
  std::uint64_t fingerprint;  // of the plan
  std::uint32_t position;     // samples after the history in every line
  std::uint32_t has_ended;    // 1: it has heard a part of a grid, and no more can follow
  // 1 while silence plays for ever: delays then answer as if what they hear had always been so.
  std::uint32_t is_settling;
  std::uint32_t reserved[11];
};
static_assert(sizeof(StateHeader) == kCacheLineBytes);

// Writes the state of a stream that has heard silence for ever, with a knob value for each channel
// of the input after the first (nullptr: zeros). `state` holds plan.state_bytes() bytes. Not zero:
// biases make activations non-zero.
void settle(const PlanView& plan, const KernelTable& kernels, std::byte* state,
            const float* knobs = nullptr) noexcept;

// Makes `state`, which may hold another stream of the plan, equal to `settled` in all that later
// samples depend on: where a plan has long filters, most of a state is room to work in.
void copy_state(const PlanView& plan, const std::byte* settled, std::byte* state) noexcept;

// Throws InputError unless `state` of `bytes` bytes belongs to the plan.
void check_state(const PlanView& plan, const std::byte* state, std::size_t bytes);

// Throws InputError where the stream has ended, so that `samples` more samples cannot follow.
void check_block(const PlanView& plan, const std::byte* state, std::size_t samples);

}  // namespace fxfast
