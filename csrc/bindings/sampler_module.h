// The sampler's part of fxfast._native.
#pragma once

#include <pybind11/pybind11.h>

namespace fxfast {

void bind_sampler(pybind11::module_& module);

}  // namespace fxfast
