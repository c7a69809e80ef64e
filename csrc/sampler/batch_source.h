// What a ring of batches asks a sampler for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampler/gather_table.h"

namespace fxfast {

// Memory of one batch; what a sampler does not use is null.
struct BatchSlot {
  float* x = nullptr;
  float* y = nullptr;
  float* mask = nullptr;
  float* knobs = nullptr;
  std::int64_t* info = nullptr;
  std::int64_t rows = 0;  // rows that the last fill made
};

// What one thread needs while it fills; made once.
struct Workspace {
  static constexpr std::size_t kRows = 1024;

  std::vector<std::uint64_t> ids = std::vector<std::uint64_t>(kRows);
  std::vector<std::uint64_t> scratch = std::vector<std::uint64_t>(2 * kRows);
  std::vector<const void*> dry = std::vector<const void*>(kRows);
  std::vector<const void*> wet = std::vector<const void*>(kRows);
};

// Values of every file that go with its audio: (files, count), row by row.
struct Knobs {
  const float* values = nullptr;
  std::size_t count = 0;
};

// Batches as a pure function of epoch and number: several threads may fill at once.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Not while another thread fills.
  virtual void set_epoch(std::uint64_t epoch) = 0;
  virtual std::uint64_t batches() const = 0;
  // Writes batch `number` of the epoch, below batches(); does not throw or allocate.
  virtual void fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const = 0;
  // Bytes that this source holds beside the audio.
  virtual std::size_t memory_bytes() const = 0;
};

}  // namespace fxfast
