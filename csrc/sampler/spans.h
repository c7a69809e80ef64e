// Where the audio of a dataset lies.
#pragma once

#include <cstdint>
#include <vector>

namespace fxfast {

// A stretch of one file that no window leaves: `length` samples of dry and wet from sample
// `start` of the file on.
struct Span {
  const void* dry;
  const void* wet;
  std::int64_t length;
  std::int64_t file;
  std::int64_t start;
};

// The spans of a dataset; all float32, or all int16. The memory belongs to somebody else.
struct Spans {
  std::vector<Span> list;
  bool is_int16 = false;

  std::size_t sample_bytes() const { return is_int16 ? 2 : 4; }
};

// The largest index i with first[i] <= value, in ascending `first` with first[0] <= value.
inline std::size_t last_at_most(const std::vector<std::uint64_t>& first, std::uint64_t value) {
  std::size_t low = 0, count = first.size();
  while (count > 1) {  // without a branch on the data
    const std::size_t half = count / 2;
    low += first[low + half] <= value ? half : 0;
    count -= half;
  }
  return low;
}

}  // namespace fxfast
