// What audio files ask of every sample or byte, for Python.
#include "bindings/audio_module.h"

#include <cerrno>
#include <cstdint>
#include <string>
#include <type_traits>

#include "base/check.h"
#include "base/read_back.h"
#include "base/row_files.h"
#include "base/sample_rows.h"

namespace py = pybind11;

namespace fxfast {
namespace {

[[noreturn]] void refuse(int error) {
  errno = error;
  PyErr_SetFromErrno(PyExc_OSError);
  throw py::error_already_set();
}

// What `use` gives without the lock of Python; below 0, the system's refusal as OSError.
template <typename Use>
std::int64_t unlocked(const Use& use) {
  std::int64_t found;
  int error;
  {
    py::gil_scoped_release release;
    found = use();
    error = errno;
  }
  if (found < 0) refuse(error);
  return found;
}

// Bytes in one piece.
struct Bytes {
  explicit Bytes(const py::buffer& any, bool writable = false) : info(any.request(writable)) {
    if (!PyBuffer_IsContiguous(info.view(), 'C')) {
      throw InputError("data: expected bytes in one piece, got strides");
    }
  }
  const std::byte* data() const { return static_cast<const std::byte*>(info.ptr); }
  std::size_t size() const { return static_cast<std::size_t>(info.size * info.itemsize); }

  py::buffer_info info;
};

bool bytes_read_back(int fd, const py::buffer& any, std::int64_t offset) {
  const Bytes bytes(any);
  return unlocked([&] { return reads_back(fd, bytes.data(), bytes.size(), offset); }) == 1;
}

bool append_bytes(int fd, const py::buffer& any, std::int64_t offset, bool read_back) {
  const Bytes bytes(any);
  return unlocked([&] { return append(fd, bytes.data(), bytes.size(), offset, read_back); }) == 1;
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

template <Decode decode, std::size_t kSampleBytes>
std::int64_t read(int fd, const py::buffer& rows_ct, std::int64_t offset) {
  const Array<float> to(rows_ct);
  if (to.size() == 0) return 0;
  return unlocked([&] { return read_rows<decode, kSampleBytes>(fd, to.rows, offset); });
}

template <Encode encode, std::size_t kSampleBytes>
bool append_encoded(int fd, const py::buffer& rows_ct, std::int64_t offset, bool read_back) {
  const Array<const float> from(rows_ct);
  if (from.size() == 0) return true;
  return unlocked([&] {
           return append_rows<encode, kSampleBytes>(fd, from.rows, offset, read_back);
         }) == 1;
}

// At least `wanted` bytes for samples.
void check_room(const Bytes& samples, std::size_t wanted) {
  if (samples.size() < wanted) {
    throw InputError("samples: expected at least " + std::to_string(wanted) +
                     " bytes in one piece, got " + std::to_string(samples.size()));
  }
}

template <Decode decode, std::size_t kSampleBytes>
void decode_rows(const py::buffer& samples, const py::buffer& rows_ct) {
  const Array<float> to(rows_ct);
  const Bytes from(samples);
  check_room(from, to.size() * kSampleBytes);
  py::gil_scoped_release release;
  decode(from.data(), to.rows);
}

template <Encode encode, std::size_t kSampleBytes>
void encode_rows(const py::buffer& rows_ct, const py::buffer& samples) {
  const Array<const float> from(rows_ct);
  const Bytes to(samples, true);
  check_room(to, from.size() * kSampleBytes);
  py::gil_scoped_release release;
  encode(from.rows, static_cast<std::byte*>(to.info.ptr));
}

float peak(const py::buffer& rows_ct) {
  const Array<const float> from(rows_ct);
  py::gil_scoped_release release;
  return peak_of(from.rows);
}

}  // namespace

void bind_audio(py::module_& module) {
  const py::arg fd("fd"), data("data"), offset("offset"), rows("rows"), samples("samples");
  const auto read_back = py::arg("read_back") = true;
  module.def("reads_back", &bytes_read_back, fd, data, offset);
  module.def("append", &append_bytes, fd, data, offset, read_back);
  module.def("append_int16", &append_encoded<encode_int16, 2>, fd, rows, offset, read_back);
  module.def("append_int24", &append_encoded<encode_int24, 3>, fd, rows, offset, read_back);
  module.def("append_float", &append_encoded<encode_float, 4>, fd, rows, offset, read_back);
  module.def("read_int16", &read<decode_int16, 2>, fd, rows, offset);
  module.def("read_int24", &read<decode_int24, 3>, fd, rows, offset);
  module.def("read_float", &read<decode_float, 4>, fd, rows, offset);
  module.def("decode_int16", &decode_rows<decode_int16, 2>, samples, rows);
  module.def("decode_int32", &decode_rows<decode_int32, 4>, samples, rows);
  module.def("encode_int16", &encode_rows<encode_int16, 2>, rows, samples);
  module.def("encode_code24", &encode_rows<encode_code24, 4>, rows, samples);
  module.def("peak", &peak, rows);
}

}  // namespace fxfast
