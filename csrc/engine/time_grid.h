// The grid of a plan in absolute time, the groups of its operations, and which lines cross them.
#pragma once

#include <span>
#include <vector>

#include "engine/packed_plan.h"

namespace fxfast {

// Gives every operation that takes a fixed number of samples at once its step.
void choose_steps(const PlanOptions& options, std::vector<PlanOp>& ops);

// The smallest common multiple of all steps; 1 where no operation has one. Throws ModelError when
// it passes kMaxGridSamples.
std::uint32_t grid_of(std::span<const PlanOp> ops);

// PlanHeader::alignment_samples. Throws as grid_of does.
std::uint32_t alignment_of(std::span<const PlanOp> ops);

// PlanHeader::reach: an operation with a step looks back from the start of its step.
std::uint64_t reach_of(const PlanHeader& header, const std::vector<PlanLine>& lines,
                       const std::vector<PlanOp>& ops);

// Gives every line its group.
void assign_groups(const PlanHeader& header, const std::vector<PlanOp>& ops,
                   std::vector<PlanLine>& lines);

// Throws ModelError unless every operation finds the samples that it takes at once in its lines.
void check_groups(const PlanView& plan);

}  // namespace fxfast
