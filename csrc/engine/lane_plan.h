// Which operations of an offline plan run in lanes, and which convolutions by transforms.
#pragma once

#include <vector>

#include "engine/packed_plan.h"

namespace fxfast {

struct LaneOptions {
  std::uint32_t output_line;
  bool all_transforms;  // though they gain nothing
};

// Moves operations in a row into lanes where a transform gains more than the copies between the
// layouts cost. `ops` are those of a program with lines that are placed nowhere yet; `sources` are
// theirs, and nullptr for a copy between layouts. Lines that both layouts use get a twin in lanes.
void use_lanes(const LaneOptions& options, std::vector<PlanOp>& ops,
               std::vector<const Op*>& sources, std::vector<PlanLine>& lines);

// Throws ModelError unless every operation finds its lines in its layout.
void check_lanes(const PlanView& plan);

}  // namespace fxfast
