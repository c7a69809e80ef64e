// The reference of the kernels for long filters: sums and radix-2 splits in double.
#pragma once

#include "kernels/kernel_table.h"

namespace fxfast::reference {

void fir(const FirTask& task) noexcept;
void spectrum_sum(const SpectrumSumTask& task) noexcept;
void spectrum_block(const SpectrumBlockTask& task) noexcept;
void spectrum_filter(const SpectrumFilterTask& task) noexcept;

}  // namespace fxfast::reference
