// What audio files ask of every sample or byte, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace fxfast {

void bind_audio(pybind11::module_& module);

}  // namespace fxfast
