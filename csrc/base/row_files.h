// Samples of open files to rows of float32 and back: a piece at a time, which stays in the nearest
// caches on its way.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/read_back.h"
#include "base/sample_rows.h"

namespace fxfast {

using Decode = void(const std::byte* samples, const Rows& rows) noexcept;
using Encode = void(const ConstRows& rows, std::byte* samples) noexcept;

// Memory for a piece of whole frames, and how many they are.
struct FramePiece {
  static constexpr std::size_t kBytes = 1 << 16;

  explicit FramePiece(std::size_t frame_bytes)
      : frames(std::max<std::size_t>(1, kBytes / frame_bytes)),
        bytes(std::make_unique_for_overwrite<std::byte[]>(frames * frame_bytes + kSlackBytes)) {}

  const std::size_t frames;
  const std::unique_ptr<std::byte[]> bytes;
};

template <typename Value>
SampleRows<Value> part_of(const SampleRows<Value>& rows, std::size_t start, std::size_t frames) {
  return {rows.data + start, rows.stride, rows.channels, std::min(frames, rows.frames - start)};
}

// Reads up to `count` bytes: fewer only where the file ends; -1 with errno where it can't be read.
inline ssize_t read_fully(int fd, std::byte* data, std::size_t count, off_t offset) {
  std::size_t done = 0;
  while (done < count) {
    const ssize_t got = pread(fd, data + done, count - done, offset + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

// Fills `rows` from `offset` of a file. How many bytes there were: fewer than wanted where the file
// ends, and the rows of the last piece are then what they were; -1 as above.
template <Decode decode, std::size_t kSampleBytes>
std::int64_t read_rows(int fd, const Rows& rows, off_t offset) {
  const std::size_t frame_bytes = rows.channels * kSampleBytes;
  const FramePiece piece(frame_bytes);
  std::int64_t total = 0;
  for (std::size_t start = 0; start < rows.frames; start += piece.frames) {
    const Rows part = part_of(rows, start, piece.frames);
    const auto wanted = static_cast<ssize_t>(part.frames * frame_bytes);
    const ssize_t got =
        read_fully(fd, piece.bytes.get(), part.frames * frame_bytes, offset + total);
    if (got < 0) return -1;
    total += got;
    if (got < wanted) break;
    decode(piece.bytes.get(), part);
  }
  return total;
}

// `append` of rows.
template <Encode encode, std::size_t kSampleBytes>
int append_rows(int fd, const ConstRows& rows, off_t offset, bool read_back) {
  const std::size_t frame_bytes = rows.channels * kSampleBytes;
  const FramePiece piece(frame_bytes);
  int same = 1;
  for (std::size_t start = 0; start < rows.frames && same == 1; start += piece.frames) {
    const ConstRows part = part_of(rows, start, piece.frames);
    const std::size_t count = part.frames * frame_bytes;
    encode(part, piece.bytes.get());
    same = append(fd, piece.bytes.get(), count, offset, read_back);
    offset += static_cast<off_t>(count);
  }
  return same;
}

}  // namespace fxfast
