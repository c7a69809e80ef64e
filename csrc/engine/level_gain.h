// A gain that follows the level, as an operation of a program.
#pragma once

#include <string>

#include "engine/program.h"
#include "kernels/gain_task.h"

namespace fxfast {

// What a sample costs, about.
constexpr std::int64_t kGainMultiplyAdds = 32;
constexpr std::int64_t gain_params(std::int64_t points) { return kGainNumbers + points; }

// Throws ModelError that begins with `name` unless the numbers and the curve are possible.
void validate_level_gain(const Op& op, const std::string& name);

// Before any sound, with the numbers as the plan has them.
GainState initial_gain_state(const float* numbers);

}  // namespace fxfast
