// The checksum of written files, for Python.
#pragma once

#include <pybind11/pybind11.h>

#include "base/check.h"
#include "base/checksum.h"

namespace fxfast {

inline void bind_checksum(pybind11::module_& module) {
  namespace py = pybind11;
  py::class_<Checksum>(module, "Checksum")
      .def(py::init())
      .def("update",
           [](Checksum& sum, const py::buffer& any) {
             const py::buffer_info bytes = any.request();
             if (!PyBuffer_IsContiguous(bytes.view(), 'C')) {
               throw InputError("bytes: expected them in one piece, got strides");
             }
             py::gil_scoped_release release;
             sum.update(static_cast<const std::byte*>(bytes.ptr),
                        static_cast<std::size_t>(bytes.size * bytes.itemsize));
           })
      .def_property_readonly("value", &Checksum::value);
}

}  // namespace fxfast
