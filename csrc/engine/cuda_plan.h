// From a program to what the CUDA kernel takes (kernels/cuda/cuda_program.h): operations split and
// ordered, lines placed in shared memory, weights packed.
#pragma once

#include <vector>

#include "base/buffers.h"
#include "engine/program.h"
#include "kernels/kernel_table.h"

namespace fxfast {

struct CudaLimits {
  int shared_bytes = 227 * 1024;  // that a team may use
  int major = 0;                  // of the compute capability
};

// Packs a program; `kernels` play the silence that a recurrent program's first cells come from.
// Throws ModelError when the program is not valid or the kernel cannot play it.
AlignedBuffer pack_cuda_plan(const Program& program, const KernelTable& kernels,
                             const CudaLimits& limits = {});

// The state of a stream of the program that has heard nothing but silence, from kStatePrefix on,
// with knobs where they stand; rings follow. The program is valid.
std::vector<float> cuda_cells(const Program& program, const KernelTable& kernels,
                              const std::vector<float>& knobs);

}  // namespace fxfast
