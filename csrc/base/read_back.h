// Writes to a file and holds what it gives back against what was written.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace fxfast {

// Whether the `count` bytes from `offset` of an open file are those at `data`: 1 or 0, and -1 with
// errno where the file cannot be read. A file that ends before is another one.
inline int reads_back(int fd, const std::byte* data, std::size_t count, off_t offset) {
  // A piece of the file and the one that it is held against are in the nearest cache together.
  std::array<std::byte, 1 << 14> piece;
  while (count > 0) {
    const ssize_t got = pread(fd, piece.data(), std::min(count, piece.size()), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0 || std::memcmp(piece.data(), data, static_cast<std::size_t>(got)) != 0) return 0;
    data += got;
    count -= static_cast<std::size_t>(got);
    offset += got;
  }
  return 1;
}

// Writes at the descriptor's position, `offset` bytes into the file, and reads back what is now
// there, unless that isn't asked for: 1, 0 or -1 as above.
inline int append(int fd, const std::byte* data, std::size_t count, off_t offset, bool read_back) {
  for (std::size_t done = 0; done < count;) {
    const ssize_t put = write(fd, data + done, count - done);
    if (put < 0 && errno != EINTR) return -1;
    done += put < 0 ? 0 : static_cast<std::size_t>(put);
  }
  return read_back ? reads_back(fd, data, count, offset) : 1;
}

}  // namespace fxfast
