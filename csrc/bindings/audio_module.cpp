// What audio files ask of every sample or byte, for Python.
#include "bindings/audio_module.h"

#include <cerrno>
#include <cstdint>
#include <string>
#include <type_traits>

#include "base/check.h"
#include "base/read_back.h"
#include "base/sample_rows.h"

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
template <typename Value>
struct Array {
  explicit Array(const py::buffer& any) : info(any.request(!std::is_const_v<Value>)) {
    const auto bytes = static_cast<py::ssize_t>(sizeof(float));
    // "<f" is what memory of the C interface says of itself.
    const bool is_float = info.format == "f" || info.format == "<f";
    if (!is_float || info.ndim != 2 || (info.shape[1] > 1 && info.strides[1] != bytes) ||
        info.strides[0] % bytes != 0) {
      throw InputError("rows: expected float32 (C, n) whose rows are in one piece each");
    }
    rows = {static_cast<Value*>(info.ptr), info.strides[0] / bytes,
            static_cast<std::size_t>(info.shape[0]), static_cast<std::size_t>(info.shape[1])};
  }
  std::size_t size() const { return rows.channels * rows.frames; }

  py::buffer_info info;
  SampleRows<Value> rows;
};

// At least `wanted` bytes.
std::byte* bytes_for(const py::buffer_info& info, std::size_t wanted) {
  const auto bytes = static_cast<std::size_t>(info.size * info.itemsize);
  if (!PyBuffer_IsContiguous(info.view(), 'C') || bytes < wanted) {
    throw InputError("samples: expected at least " + std::to_string(wanted) +
                     " bytes in one piece, got " + std::to_string(bytes));
  }
  return static_cast<std::byte*>(info.ptr);
}

// `use` of samples of kBytes each, and of kMore bytes behind the last.
template <auto use, std::size_t kBytes, std::size_t kMore = 0>
void decode(const py::buffer& samples, const py::buffer& rows_ct) {
  const Array<float> to(rows_ct);
  const py::buffer_info from = samples.request();
  const std::byte* bytes = bytes_for(from, to.size() == 0 ? 0 : to.size() * kBytes + kMore);
  py::gil_scoped_release release;
  use(bytes, to.rows);
}

template <auto use, std::size_t kBytes>
void encode(const py::buffer& rows_ct, const py::buffer& samples) {
  const Array<const float> from(rows_ct);
  const py::buffer_info to = samples.request(true);
  std::byte* bytes = bytes_for(to, from.size() * kBytes);
  py::gil_scoped_release release;
  use(from.rows, bytes);
}

void pack(const py::buffer& codes, const py::buffer& samples) {
  const py::buffer_info from = codes.request(), to = samples.request(true);
  const auto count = static_cast<std::size_t>(from.size * from.itemsize) / sizeof(std::int32_t);
  const std::byte* in = bytes_for(from, 0);
  std::byte* out = bytes_for(to, 3 * count);
  py::gil_scoped_release release;
  pack_code24(in, count, out);
}

}  // namespace

void bind_audio(py::module_& module) {
  module.def("append", &with_bytes<append>, py::arg("fd"), py::arg("data"), py::arg("offset"));
  module.def("reads_back", &with_bytes<reads_back>, py::arg("fd"), py::arg("data"),
             py::arg("offset"));
  const py::arg rows("rows"), samples("samples");
  module.def("decode_int16", &decode<decode_int16, 2>, samples, rows);
  module.def("decode_int24", &decode<decode_int24, 3, 1>, samples, rows);
  module.def("decode_float", &decode<decode_float, 4>, samples, rows);
  module.def("encode_int16", &encode<encode_int16, 2>, rows, samples);
  module.def("encode_code24", &encode<encode_code24, 4>, rows, samples);
  module.def("encode_float", &encode<encode_float, 4>, rows, samples);
  module.def("pack_code24", &pack, py::arg("codes"), samples);
}

}  // namespace fxfast
