// A fixed team of threads for loops over independent items.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace fxfast {

// `run` calls fn(item, worker) for every item in [0, items), worker in [0, min(threads, items)),
// and returns when all are done; the calling thread is worker 0. fn must not throw. A second
// caller that finds the team busy runs its loop alone, as worker 0 of its own: so fn must
// keep what belongs to a worker in memory of the call, not of the pool. Threads start at
// the first use and, because threads do not survive fork, again in a forked child.
class WorkerPool {
 public:
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const { return threads_; }
  void run(int items, const std::function<void(int item, int worker)>& fn);

 private:
  struct Team;
  void start_team();

  const int threads_;
  std::mutex busy_;
  std::unique_ptr<Team> team_;
  pid_t owner_pid_ = 0;
};

}  // namespace fxfast
