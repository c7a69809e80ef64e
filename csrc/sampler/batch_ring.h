// A ring of batches that native threads fill ahead of the one who takes them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "sampler/batch_source.h"

namespace fxfast {

// `take` hands out the batches of an epoch in order, each in a slot that stays as it is until
// slots() - ahead more have been taken. With 0 threads the caller fills; otherwise the threads
// keep up to `ahead` batches ready. What is handed out depends on neither.
//
// One caller at a time. Threads start at the first take and, because threads do not survive
// fork, again in a forked child.
class BatchRing {
 public:
  BatchRing(std::shared_ptr<BatchSource> source, std::vector<BatchSlot> slots, int threads,
            std::size_t ahead);
  ~BatchRing();
  BatchRing(const BatchRing&) = delete;
  BatchRing& operator=(const BatchRing&) = delete;

  // The slot of the next batch, or -1 at the end of the epoch.
  std::int64_t take();
  // Whether take() would return without waiting or filling.
  bool is_ready() const;
  const BatchSlot& slot(std::int64_t index) const {
    return slots_[static_cast<std::size_t>(index)];
  }
  // The next batch to take is `position`, at most batches(), and then every `step`-th.
  void seek(std::uint64_t epoch, std::uint64_t position, std::uint64_t step = 1);
  std::uint64_t epoch() const { return epoch_; }
  std::uint64_t position() const { return position_; }
  std::uint64_t batches() const { return source_->batches(); }
  std::size_t memory_bytes() const;
  // Ends the threads; the next take starts them again.
  void rest();

 private:
  struct Team;
  void start_team(std::uint64_t batches);
  std::uint64_t number_of(std::uint64_t ordinal) const { return first_ + ordinal * step_; }

  std::shared_ptr<BatchSource> source_;
  std::vector<BatchSlot> slots_;
  Workspace own_work_;
  const int threads_;
  const std::size_t ahead_;
  std::uint64_t epoch_ = 0, position_ = 0;
  // Batches since the last seek are number first_, first_ + step_, ...
  std::uint64_t first_ = 0, step_ = 1, taken_ = 0;
  std::unique_ptr<Team> team_;
  pid_t owner_pid_ = 0;
};

}  // namespace fxfast
