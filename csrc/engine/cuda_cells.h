// What streams on CUDA begin with where operations have endless memories.
#pragma once

#include <vector>

#include "engine/packed_plan.h"
#include "kernels/kernel_table.h"

namespace fxfast {

// The state after silence of each operation with an endless memory, in order, as the CUDA kernels
// keep it: whole groups of four floats. `knobs` are where knobs stand, null: all at zero.
std::vector<std::vector<float>> settled_cells(const PlanView& plan, const KernelTable& kernels,
                                              const float* knobs = nullptr);

}  // namespace fxfast
