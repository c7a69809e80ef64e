// The spectra of convolution weights, as SpectralTask reads them.
#pragma once

#include <cstddef>

#include "kernels/pack_weights.h"

namespace fxfast {

// How many floats pack_spectra writes.
std::ptrdiff_t spectra_floats(std::ptrdiff_t out_channels, std::ptrdiff_t in_channels, int taps);

// `spectra` holds zeros.
void pack_spectra(const WeightView& view, float* spectra);

}  // namespace fxfast
