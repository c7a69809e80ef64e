// The plain twin of the kernel level_gain: sample by sample in double, with the C library's
// functions.
#pragma once

#include "kernels/gain_task.h"

namespace fxfast {

void reference_level_gain(const LevelGainTask& task) noexcept;

}  // namespace fxfast
