// What plans library runs of many files, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace fxfast {

void bind_library(pybind11::module_& module);
void bind_journal(pybind11::module_& module);

}  // namespace fxfast
