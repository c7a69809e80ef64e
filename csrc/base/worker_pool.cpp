#include "base/worker_pool.h"

#include <unistd.h>

#include <algorithm>

namespace fxfast {

struct WorkerPool::Team {
  explicit Team(int helpers) {
    threads.reserve(static_cast<std::size_t>(helpers));
    for (int i = 0; i < helpers; ++i) threads.emplace_back([this, i] { work(i + 1); });
  }
  ~Team() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [&] { return stop || round != seen; });
      if (stop) return;
      seen = round;
      lock.unlock();
      take_items(worker);
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }

  void take_items(int worker) {
    if (worker >= items) return;
    for (int item = next.fetch_add(1); item < items; item = next.fetch_add(1)) (*fn)(item, worker);
  }

  void run(int item_count, const std::function<void(int, int)>& function) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      fn = &function;
      items = item_count;
      next.store(0);
      running = static_cast<int>(threads.size());
      ++round;
    }
    wake.notify_all();
    take_items(0);
    std::unique_lock<std::mutex> lock(mutex);
    done.wait(lock, [&] { return running == 0; });
  }

  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake, done;
  const std::function<void(int, int)>* fn = nullptr;
  std::atomic<int> next{0};
  int items = 0;
  int running = 0;
  std::uint64_t round = 0;
  bool stop = false;
};

WorkerPool::WorkerPool(int threads) : threads_(std::max(1, threads)) {}

WorkerPool::~WorkerPool() {
  // In a forked child the team's threads do not exist: joining them would hang.
  if (team_ && owner_pid_ != getpid()) (void)team_.release();
}

void WorkerPool::start_team() {
  if (team_ && owner_pid_ == getpid()) return;
  (void)team_.release();
  team_ = std::make_unique<Team>(threads_ - 1);
  owner_pid_ = getpid();
}

void WorkerPool::run(int items, const std::function<void(int, int)>& fn) {
  if (threads_ > 1 && items > 1) {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    if (lock.owns_lock()) {
      start_team();
      team_->run(items, fn);
      return;
    }
  }
  for (int item = 0; item < items; ++item) fn(item, 0);
}

}  // namespace fxfast
