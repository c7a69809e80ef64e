#include "sampler/batch_ring.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"

namespace fxfast {

// Ordinals count the batches since the last seek. The consumer fills the first one itself, while
// the threads begin with the next. A thread claims the next ordinal, waits until
// the consumer has allowed it, fills, and marks its slot; the consumer allows many at a time,
// so that small batches do not cost a wake-up each.
struct BatchRing::Team {
  Team(BatchRing& ring, std::uint64_t ordinals)
      : slots(ring.slots_), filled(ring.slots_.size()), allowed(ring.ahead_), end(ordinals) {
    for (int i = 0; i < ring.threads_; ++i) threads.emplace_back([this, &ring] { work(ring); });
  }

  ~Team() {
    stop.store(true);
    allowed.fetch_add(std::uint64_t{1} << 62);
    allowed.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void work(const BatchRing& ring) {
    Workspace workspace;
    for (;;) {
      const std::uint64_t ordinal = claimed.fetch_add(1);
      if (ordinal >= end) return;
      for (std::uint64_t now = allowed.load(); now <= ordinal; now = allowed.load()) {
        allowed.wait(now);
      }
      if (stop.load()) return;
      const std::size_t index = ordinal % slots.size();
      ring.source_->fill(ring.number_of(ordinal), slots[index], workspace);
      filled[index].store(ordinal + 1, std::memory_order_release);
      filled[index].notify_one();
    }
  }

  bool is_filled(std::uint64_t ordinal) const {
    return filled[ordinal % slots.size()].load(std::memory_order_acquire) == ordinal + 1;
  }

  void wait_for(std::uint64_t ordinal) {
    std::atomic<std::uint64_t>& mark = filled[ordinal % slots.size()];
    for (std::uint64_t now = mark.load(std::memory_order_acquire); now != ordinal + 1;
         now = mark.load(std::memory_order_acquire)) {
      mark.wait(now, std::memory_order_acquire);
    }
  }

  // The consumer holds on to the slots behind the last `ahead`: those are free to be filled.
  void allow(std::uint64_t taken, std::size_t ahead) {
    if (taken + ahead < told + std::max<std::size_t>(1, ahead / 2)) return;
    told = taken + ahead;
    allowed.store(told);
    allowed.notify_all();
  }

  std::vector<BatchSlot>& slots;
  std::vector<std::atomic<std::uint64_t>> filled;
  std::atomic<std::uint64_t> claimed{1}, allowed;
  std::atomic<bool> stop{false};
  const std::uint64_t end;
  std::uint64_t told = 0;
  std::vector<std::thread> threads;
};

BatchRing::BatchRing(std::shared_ptr<BatchSource> source, std::vector<BatchSlot> slots, int threads,
                     std::size_t ahead)
    : source_(std::move(source)),
      slots_(std::move(slots)),
      threads_(std::max(0, threads)),
      ahead_(ahead) {
  if (slots_.empty() || ahead_ < 1 || ahead_ >= slots_.size()) {
    throw InputError("prefetch: expected 1 to below the " + std::to_string(slots_.size()) +
                     " batches of the ring, got " + std::to_string(ahead_));
  }
}

BatchRing::~BatchRing() { rest(); }

void BatchRing::rest() {
  // In a forked child the team's threads do not exist: joining them would hang.
  if (team_ && owner_pid_ != getpid()) (void)team_.release();
  team_.reset();
}

void BatchRing::seek(std::uint64_t epoch, std::uint64_t position, std::uint64_t step) {
  rest();
  if (epoch != epoch_) source_->set_epoch(epoch);
  epoch_ = epoch;
  position_ = first_ = position;
  step_ = std::max<std::uint64_t>(1, step);
  taken_ = 0;
}

bool BatchRing::is_ready() const {
  return team_ && owner_pid_ == getpid() && team_->is_filled(taken_);
}

void BatchRing::start_team(std::uint64_t batches) {
  rest();
  first_ = position_;
  taken_ = 0;
  owner_pid_ = getpid();
  team_ = std::make_unique<Team>(*this, batches);
}

std::int64_t BatchRing::take() {
  const std::uint64_t batches = source_->batches();
  if (position_ >= batches) {
    rest();
    return -1;
  }
  if (threads_ > 0 && team_ && owner_pid_ == getpid()) {
    team_->wait_for(taken_);
  } else {
    if (threads_ > 0) start_team((batches - position_ + step_ - 1) / step_);
    source_->fill(position_, slots_[taken_ % slots_.size()], own_work_);
  }
  const std::size_t index = taken_ % slots_.size();
  ++taken_;
  position_ += step_;
  if (team_) team_->allow(taken_, ahead_);
  return static_cast<std::int64_t>(index);
}

std::size_t BatchRing::memory_bytes() const {
  return sizeof(*this) + source_->memory_bytes() + slots_.capacity() * sizeof(BatchSlot);
}

}  // namespace fxfast
