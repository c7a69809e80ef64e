// What is checked of the sizes of operations in a plan, and of what delays read.
#pragma once

#include "engine/packed_plan.h"

namespace fxfast {

// Throw ModelError unless the sizes are those of the operation.
void check_conv_sizes(const PlanOp& op);
void check_filter_sizes(const PlanOp& op);
void check_delay_sizes(const PlanOp& op);
void check_level_gain_sizes(const PlanOp& op);

// Throws ModelError unless the numbers of every delay are whole and fit its sizes.
void check_delays(const PlanView& plan);

}  // namespace fxfast
