// Lanes: contiguous runs in lock step, for recurrent nets.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sampler/batch_source.h"
#include "sampler/permutation.h"
#include "sampler/spans.h"

namespace fxfast {

struct LaneSettings {
  std::uint64_t lanes = 1;    // of all ranks together
  std::uint64_t segment = 0;  // samples, a multiple of chunk; 0: each lane one part of everything
  std::uint64_t chunk = 1;    // samples
  std::uint64_t warm_up = 0;  // samples before a segment, to bring a state to where it was
  std::uint64_t seed = 0;
  bool stagger = false;  // lanes begin their segments one after the other
  std::uint64_t rank = 0, ranks = 1;

  std::uint64_t of_rank() const { return lanes / ranks; }
};

// What one lane does in one step.
struct LaneChunk {
  std::int64_t lane = 0;
  std::int64_t span = -1;  // -1: nothing left
  std::uint64_t start = 0, valid = 0;
  bool reset = true;          // the state is to be zero before this chunk
  std::uint64_t warm_up = 0;  // samples before `start` to run before the chunk, after a reset
};

// An epoch cuts every span in segments, the first at a random phase; a keyed permutation gives
// their order, lane l of B takes segments l, l + B, ... and walks through each in chunks.
// Without a length of segments lane l walks through the l-th of B equal parts of all spans one
// after the other, and its state is reset where a span ends.
class LaneOrder {
 public:
  LaneOrder(const std::vector<std::int64_t>& lengths, const LaneSettings& settings);

  void set_epoch(std::uint64_t epoch);
  std::uint64_t steps() const { return steps_; }
  LaneChunk chunk(std::uint64_t step, std::uint64_t lane) const;
  const LaneSettings& settings() const { return settings_; }
  std::size_t memory_bytes() const;

 private:
  struct Segment {
    std::int64_t span;
    std::uint64_t begin, end;
  };
  std::uint64_t phase(std::size_t span) const;
  std::uint64_t segments_of(std::size_t span) const;
  Segment segment(std::uint64_t number) const;
  LaneChunk chunk_of(const Segment& segment, std::uint64_t lane, std::uint64_t number) const;
  Segment whole_part(std::uint64_t lane, std::uint64_t step, std::uint64_t& number) const;
  std::uint64_t whole_steps(std::uint64_t lane) const;

  LaneSettings settings_;
  std::vector<std::uint64_t> end_;    // samples up to the end of each span
  std::vector<std::uint64_t> first_;  // segments, or chunks, before each span
  std::uint64_t segments_ = 0, steps_ = 0;
  std::optional<KeyedPermutation> phases_, order_;
};

// Rows (lanes of the rank): x (rows, warm_up + chunk), of which the warm-up is only written where
// a segment begins, right before the chunk; y (rows, chunk); info (kColumns, rows).
class LaneBatches : public BatchSource {
 public:
  enum Column { kReset, kWarm, kValid, kLane, kFile, kStart, kColumns };

  LaneBatches(Spans spans, const LaneSettings& settings, Knobs knobs, const GatherTable& table);

  void set_epoch(std::uint64_t epoch) override { order_.set_epoch(epoch); }
  std::uint64_t batches() const override { return order_.steps(); }
  void fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const override;
  std::size_t memory_bytes() const override;

  const LaneOrder& order() const { return order_; }

 private:
  void fill_row(const LaneChunk& chunk, std::uint64_t row, BatchSlot& slot) const;

  Spans spans_;
  LaneOrder order_;
  Knobs knobs_;
  const GatherTable& table_;
};

}  // namespace fxfast
