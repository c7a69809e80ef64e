// The one loop that turns audio into audio.
#pragma once

#include <cstddef>

#include "engine/packed_plan.h"
#include "engine/stream_state.h"
#include "kernels/kernel_table.h"

namespace fxfast {

// The inputs of a conditioned plan after the audio: a row for each channel of its first line but
// the first. No values are zeros.
struct KnobRows {
  const float* values = nullptr;
  std::size_t stride = 0;  // between rows; 0: one value for each row, which holds

  KnobRows after(std::size_t samples) const noexcept {
    return stride == 0 ? *this : KnobRows{values + samples, stride};
  }
};

// Runs `samples` samples of one stream from `input` to `output` (which may be the same) and
// leaves the history in `state`. Real-time safe: no throw, no allocation, no lock. Every split
// of a stream into blocks gives the same bits. Denormals count as zero inside. No input (nullptr)
// is silence, and no output is not wanted.
//
// With a grid, `samples` is a whole number of grids in all calls but the last one of the stream:
// what is left of its last grid runs as silence, and the stream has then ended (check_block).
void run_block(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::size_t samples,
               const KnobRows& knobs = {}) noexcept;

// One of several streams that run side by side: its state, and a block in and out.
struct BatchStream {
  std::byte* state;
  const float* input;
  float* output;
  KnobRows knobs = {};
};

// run_block for `count` streams of one plan, with blocks of equal length: the same bits, and much
// less time where layers are recurrent, because those work on many streams at once.
void run_block_batch(const PlanView& plan, const KernelTable& kernels, const BatchStream* streams,
                     std::size_t count, std::size_t samples) noexcept;

}  // namespace fxfast
