#include "sampler/page_buffer.h"

#include <sys/mman.h>

#include <new>

#include "base/buffers.h"

namespace fxfast {

constexpr std::size_t kPageBytes = 4096, kHugePageBytes = std::size_t{2} << 20;

PageBuffer::PageBuffer(std::size_t bytes) : size_(bytes) {
  const bool is_large = bytes >= kHugePageBytes;
  mapped_ = round_up(bytes + (is_large ? kHugePageBytes : 1), kPageBytes);
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  if (is_large) address = round_up(address, kHugePageBytes);
  data_ = reinterpret_cast<std::byte*>(address);
#ifdef MADV_HUGEPAGE
  if (is_large) (void)madvise(data_, bytes, MADV_HUGEPAGE);
#endif
}

PageBuffer::~PageBuffer() { munmap(mapping_, mapped_); }

}  // namespace fxfast
