// Which operations of a plan are one layer of a WaveNet, so that the kernels can run them at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/packed_plan.h"

namespace fxfast {

// A layer's operations follow one another in the plan:
//   conv      z = convolution(h)
//   mixin     a = act(z + 1x1(condition)), without a bias of its own
//   sum       total = total + a, of a layer that is not the first of its array
//   residual  next h = h + 1x1(a), of a layer that is not the last
// A first layer's a is the total itself, so its line is written; the lines of z, and of the a of
// others, are not, and nobody reads them.
//
// The group that begins with operation `first`; `plan` are the bytes that hold the weights.
LayerGroup layer_group(const PlanOp* ops, std::size_t op_count, const PlanLine* lines,
                       std::uint32_t output_line, const std::byte* plan, std::size_t first);

}  // namespace fxfast
