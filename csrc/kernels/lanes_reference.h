// The plain twins of the kernels in lanes, for the reference table.
#pragma once

#include "kernels/kernel_table.h"

namespace fxfast {

void reference_to_lanes(const LanesTask& task) noexcept;
void reference_from_lanes(const LanesTask& task) noexcept;
void reference_carry_lanes(const CarryTask& task) noexcept;
// Transforms by their definition and complex products, all in double.
void reference_spectral(const SpectralTask& task) noexcept;

}  // namespace fxfast
