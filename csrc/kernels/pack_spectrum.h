// The tables that the kernels of long filters take (kernel_table.h), computed in double.
#pragma once

#include <cstddef>

#include "kernels/kernel_table.h"

namespace fxfast {

std::size_t twiddle_floats(std::size_t bins);
void pack_twiddles(std::size_t bins, float* packed);

// The spectra, times 1 / bins, of `count` taps, the factor of the newest sample first, in
// `partitions` partitions of `bins` taps: 2 * bins * partitions floats.
void pack_response(std::size_t bins, std::size_t partitions, const float* taps, std::size_t count,
                   float* packed);

}  // namespace fxfast
