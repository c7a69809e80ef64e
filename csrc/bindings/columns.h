// Packed numbers and hashes that C++ and Python share.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace fxfast {

namespace py = pybind11;

using Numbers = std::vector<std::int64_t>;

template <typename T>
py::bytes packed(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline py::bytes bytes_of(std::string_view text) { return {text.data(), text.size()}; }

inline std::int64_t hash_of(const py::handle& value) {
  const Py_hash_t hash = PyObject_Hash(value.ptr());
  if (hash == -1 && PyErr_Occurred()) throw py::error_already_set();
  return hash;
}

inline std::int64_t hash_of(std::string_view text) { return hash_of(bytes_of(text)); }

// Numbers that Python has packed.
template <typename T>
class Column {
 public:
  explicit Column(const py::buffer& buffer) : info_(buffer.request()) {
    if (info_.itemsize != sizeof(T) || !PyBuffer_IsContiguous(info_.view(), 'C')) {
      throw InputError("column: expected items of " + std::to_string(sizeof(T)) +
                       " bytes in one piece, got items of " + std::to_string(info_.itemsize));
    }
  }
  std::size_t size() const { return static_cast<std::size_t>(info_.size); }
  T operator[](std::size_t at) const {
    if (at >= size()) throw InputError("column: expected more rows than it has");
    return data()[at];
  }
  const T* data() const { return static_cast<const T*>(info_.ptr); }

 private:
  py::buffer_info info_;
};

// What has to be equal for a file to need no work.
inline std::int64_t work_key(const py::bytes& input, std::int64_t size, std::int64_t time_ns,
                             const py::handle& run) {
  return hash_of(py::make_tuple(input, py::make_tuple(size, time_ns), run));
}

}  // namespace fxfast
