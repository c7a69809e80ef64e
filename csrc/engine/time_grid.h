// What a plan knows of time: histories, the grid, groups of operations, lines that cross groups.
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

// The lines of a program with the histories that its operations read.
std::vector<PlanLine> lines_of(const Program& program, const std::vector<PlanOp>& ops);

// How far back the output depends on the input, in the order of the operations; also sees that
// nothing is read before it is written.
std::int64_t receptive_field_of(const Program& program);

// PlanHeader::reach: an operation with a step looks back from the start of its step.
std::uint64_t reach_of(const PlanHeader& header, const std::vector<PlanLine>& lines,
                       const std::vector<PlanOp>& ops);

// Gives every line its group.
void assign_groups(const PlanHeader& header, const std::vector<PlanOp>& ops,
                   std::vector<PlanLine>& lines);

// Throws ModelError unless every operation finds the samples that it takes at once in its lines.
void check_groups(const PlanView& plan);

}  // namespace fxfast
