// Weights as the CUDA kernels take them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cuda_stack.h"
#include "engine/program.h"

namespace fxfast {

// Panels of so many output channels: [panel][tap][in][outs], zero where there are fewer.
std::vector<float> panel_weights(const Op& op, int outs);

// [row][unit][gate] from [row][gate][unit].
std::vector<float> gate_weights(const std::vector<float>& from, int rows, int units);

// A layer as CudaLayer has it, for a kernel with so many times in a thread, and how long that is.
std::vector<float> layer_weights(const Program& program, const LayerStack& stack,
                                 const StackLayer& layer, int times);
std::int64_t layer_floats(const Program& program, const LayerStack& stack, const StackLayer& layer,
                          int times);

// Of the longest layer.
std::int64_t weight_place(const Program& program, const LayerStack& stack, int times);

}  // namespace fxfast
