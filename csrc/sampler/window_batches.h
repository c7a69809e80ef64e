// Batches of windows, and of runs of windows as blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sampler/batch_source.h"
#include "sampler/spans.h"
#include "sampler/window_order.h"

namespace fxfast {

// What becomes of the windows that do not fill a last batch.
enum class LastBatch { kDrop, kShort, kWrap };

// The part of a global batch that one of several ranks makes: the batch does not depend on how
// many there are.
struct BatchShape {
  std::uint64_t batch = 1;  // windows of all ranks together
  std::uint64_t rank = 0, ranks = 1;
  LastBatch last = LastBatch::kDrop;
  std::uint64_t out_length = 1;  // samples of wet at the end of a window; 0 for none

  std::uint64_t of_rank() const { return batch / ranks; }
};

// One row per window: x (rows, length), y (rows, out_length), info the ids, mask 1 or, for the
// rows with which a last batch is filled up, 0.
class WindowBatches : public BatchSource {
 public:
  WindowBatches(Spans spans, const WindowSettings& settings, const BatchShape& shape, Knobs knobs,
                const GatherTable& table);

  void set_epoch(std::uint64_t epoch) override { order_.set_epoch(epoch); }
  std::uint64_t batches() const override;
  void fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const override;
  std::size_t memory_bytes() const override;

  const WindowOrder& order() const { return order_; }

 protected:
  // Positions [first, first + count) of this rank in batch `number`.
  struct Range {
    std::uint64_t first, count;
  };
  Range range(std::uint64_t number) const;
  void copy_knobs(const Span& span, float* out) const;

  Spans spans_;
  WindowOrder order_;
  BatchShape shape_;
  Knobs knobs_;
  const GatherTable& table_;

 private:
  void fill_part(std::uint64_t first, std::size_t count, std::uint64_t row, BatchSlot& slot,
                 Workspace& work) const;
};

// One row per run, or per part of it where it crosses the end of a span: the windows of a run
// overlap, so the row holds every sample once. x (rows, length + (run - 1) * stride) and
// y, mask (rows, out_length + (run - 1) * stride), zero behind a shorter run; info (rows, 2) the
// first id and the number of windows.
class BlockBatches : public WindowBatches {
 public:
  BlockBatches(Spans spans, const WindowSettings& settings, const BatchShape& shape, Knobs knobs,
               const GatherTable& table);

  void fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const override;
  // The most rows that a batch can have.
  std::uint64_t max_rows() const { return max_rows_; }

 private:
  void fill_row(const WindowOrder::Place& place, std::uint64_t id, std::uint64_t windows,
                BatchSlot& slot) const;
  std::uint64_t most_parts_of_a_run() const;

  std::uint64_t max_rows_;
};

// Copies `count` samples to `out` as float32 and writes zeros up to `length`.
void copy_samples(const GatherTable& table, bool is_int16, const void* source, std::uint64_t count,
                  std::uint64_t length, float* out);

// The address of sample `index`.
const void* sample_at(const void* audio, std::uint64_t index, bool is_int16);

}  // namespace fxfast
