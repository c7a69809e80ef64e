// What operations with endless memories are on CUDA: what streams begin with, and their numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/packed_plan.h"
#include "engine/program.h"
#include "kernels/kernel_table.h"

namespace fxfast {

// The state of an operation as the CUDA kernels keep it: `first` are its floats after silence,
// whole groups of four; `ring` more follow, whatever they hold.
struct CudaCells {
  std::vector<float> first;
  std::int64_t ring = 0;

  std::int64_t floats() const { return static_cast<std::int64_t>(first.size()) + ring; }
};

// Those of each operation with an endless memory, in order. `knobs` are where knobs stand, null:
// all at zero.
std::vector<CudaCells> settled_cells(const PlanView& plan, const KernelTable& kernels,
                                     const float* knobs = nullptr);

// The numbers of a delay as cuda::CudaDelay, then voices, sections and tables.
std::vector<float> cuda_delay_numbers(const Op& op);

// Whether a program has delays, gains that follow a level or long filters, which have a kernel of
// their own.
bool is_mixed(const Program& program);

}  // namespace fxfast
