// Whole arrays through a plan, on a team of threads.
#pragma once

#include <cstddef>
#include <vector>

#include "base/worker_pool.h"
#include "engine/packed_plan.h"
#include "engine/run_block.h"
#include "kernels/kernel_table.h"

namespace fxfast {

// Renders `streams` independent rows of `samples` samples, row after row, from `input` to
// `output` (which may not overlap). Every row starts settled. Long rows are cut into segments
// when there are fewer rows than threads; a segment starts where bits are the same and first hears
// all that they depend on, so the result is the same to the bit. Rows of a recurrent plan run in
// groups. `kept` is memory for states that the call finds, adds to and leaves for the next call of
// the same plan: fresh pages for a long filter take as long as its sums. `knobs` are those of every
// row, and `settled` has heard their first values.
void render_array(const PlanView& plan, const KernelTable& kernels, const std::byte* settled,
                  WorkerPool& pool, const float* input, float* output, std::size_t streams,
                  std::size_t samples, std::vector<AlignedBuffer>* kept = nullptr,
                  const KnobRows& knobs = {});

}  // namespace fxfast
