// What audio files ask of every sample or byte, for Python.
#include "bindings/audio_module.h"

#include <cerrno>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/pcm16.h"
#include "base/read_back.h"

namespace py = pybind11;

namespace fxfast {
namespace {

// `use` of an open file and bytes, 1 or 0, with what the system refuses as OSError.
template <int (*use)(int, const std::byte*, std::size_t, off_t)>
bool with_bytes(int fd, const py::buffer& any, std::int64_t offset) {
  const py::buffer_info bytes = any.request();
  if (!PyBuffer_IsContiguous(bytes.view(), 'C')) {
    throw InputError("data: expected bytes in one piece, got strides");
  }
  int same, error;
  {
    py::gil_scoped_release release;
    same = use(fd, static_cast<const std::byte*>(bytes.ptr),
               static_cast<std::size_t>(bytes.size * bytes.itemsize), offset);
    error = errno;
  }
  if (same < 0) {
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    throw py::error_already_set();
  }
  return same == 1;
}

// Rows of float32 (C, n), n samples of each in one piece.
struct Rows {
  explicit Rows(const py::buffer& any, bool writable) : info(any.request(writable)) {
    if (info.format != py::format_descriptor<float>::format() || info.ndim != 2 ||
        (info.shape[1] > 1 && info.strides[1] != sizeof(float)) ||
        info.strides[0] % static_cast<py::ssize_t>(sizeof(float)) != 0) {
      throw InputError("rows: expected float32 (C, n) whose rows are in one piece each");
    }
  }
  float* data() const { return static_cast<float*>(info.ptr); }
  std::size_t channels() const { return static_cast<std::size_t>(info.shape[0]); }
  std::size_t frames() const { return static_cast<std::size_t>(info.shape[1]); }
  std::ptrdiff_t stride() const {
    return info.strides[0] / static_cast<std::ptrdiff_t>(sizeof(float));
  }

  py::buffer_info info;
};

// The bytes of as many 16-bit samples as the rows have, or more.
py::buffer_info samples_of(const py::buffer& any, const Rows& rows, bool writable) {
  py::buffer_info info = any.request(writable);
  const std::size_t wanted = rows.channels() * rows.frames() * sizeof(std::int16_t);
  const auto bytes = static_cast<std::size_t>(info.size * info.itemsize);
  if (!PyBuffer_IsContiguous(info.view(), 'C') || bytes < wanted) {
    throw InputError("samples: expected at least " + std::to_string(wanted) +
                     " bytes in one piece, got " + std::to_string(bytes));
  }
  return info;
}

void decode_int16(const py::buffer& samples, const py::buffer& rows_ct) {
  const Rows rows(rows_ct, true);
  const py::buffer_info from = samples_of(samples, rows, false);
  py::gil_scoped_release release;
  rows_from_int16(static_cast<const std::int16_t*>(from.ptr), rows.channels(), rows.frames(),
                  rows.data(), rows.stride());
}

void encode_int16(const py::buffer& rows_ct, const py::buffer& samples) {
  const Rows rows(rows_ct, false);
  const py::buffer_info to = samples_of(samples, rows, true);
  py::gil_scoped_release release;
  int16_from_rows(rows.data(), rows.stride(), rows.channels(), rows.frames(),
                  static_cast<std::int16_t*>(to.ptr));
}

}  // namespace

void bind_audio(py::module_& module) {
  module.def("append", &with_bytes<append>, py::arg("fd"), py::arg("data"), py::arg("offset"));
  module.def("reads_back", &with_bytes<reads_back>, py::arg("fd"), py::arg("data"),
             py::arg("offset"));
  module.def("decode_int16", &decode_int16, py::arg("samples"), py::arg("rows"));
  module.def("encode_int16", &encode_int16, py::arg("rows"), py::arg("samples"));
}

}  // namespace fxfast
