// The reference of the kernels for long filters: plain radix-2 splits, each in double.
#pragma once

#include "kernels/kernel_table.h"

namespace fxfast::reference {

void spectrum_sum(const SpectrumSumTask& task) noexcept;
void spectrum_block(const SpectrumBlockTask& task) noexcept;

}  // namespace fxfast::reference
