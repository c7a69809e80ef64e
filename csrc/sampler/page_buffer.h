// Large zeroed memory on page borders, on huge pages where the system has them: a window far from
// the last one then costs no walk through page tables.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

class PageBuffer {
 public:
  explicit PageBuffer(std::size_t bytes);
  ~PageBuffer();
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;

  std::byte* data() { return data_; }
  std::size_t size() const { return size_; }

 private:
  void* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fxfast
