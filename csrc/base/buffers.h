// Aligned memory that is allocated once and never grows.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fxfast {

constexpr std::size_t kCacheLineBytes = 64;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Zero-initialised bytes aligned to a cache line. What is larger than a few huge pages stands in
// such: weights that are read from end to end every sample would else wait for the page table.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes)
      : data_(static_cast<std::byte*>(::operator new(bytes, alignment_of(bytes)))), size_(bytes) {
#ifdef MADV_HUGEPAGE
    if (bytes >= kManyBytes) (void)::madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, bytes);
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::byte* data = other.data_;
    const std::size_t size = other.size_;
    other.data_ = data_;
    other.size_ = size_;
    data_ = data;
    size_ = size;
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() {
    if (data_ != nullptr) ::operator delete(data_, alignment_of(size_));
  }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kHugePageBytes = std::size_t{1} << 21;
  static constexpr std::size_t kManyBytes = 4 * kHugePageBytes;
  static constexpr std::align_val_t alignment_of(std::size_t bytes) {
    return std::align_val_t{bytes >= kManyBytes ? kHugePageBytes : kCacheLineBytes};
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fxfast
