// The reference twin of the delay kernel.
#pragma once

#include "kernels/delay_task.h"

namespace fxfast {

void reference_delay(const DelayTask& task) noexcept;

}  // namespace fxfast
