#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/worker_pool.h"
#include "testing.h"

namespace {

using fxfast::WorkerPool;

std::vector<int> visits(WorkerPool& pool, int items) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(items));
  pool.run(items, [&](int item, int worker) {
    const bool has_place = worker >= 0 && worker < pool.threads() && worker < items;
    if (has_place) ++seen[static_cast<std::size_t>(item)];
  });
  return std::vector<int>(seen.begin(), seen.end());
}

TEST(every_item_is_visited_once) {
  for (int threads : {1, 2, 5}) {
    WorkerPool pool(threads);
    for (int items : {0, 1, 2, 1000}) {
      const std::vector<int> expected(static_cast<std::size_t>(items), 1);
      CHECK(visits(pool, items) == expected);
    }
    // Whoever wakes first takes the items: none may go to a worker that has no place for them.
    for (int round = 0; round < 200; ++round) CHECK(visits(pool, 2) == std::vector<int>(2, 1));
  }
}

TEST(many_callers_share_a_pool) {
  WorkerPool pool(3);
  std::atomic<int> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        pool.run(20, [&](int, int) { ++total; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(total == 4 * 50 * 20);
}

TEST(a_pool_works_in_a_forked_child) {
  WorkerPool pool(3);
  CHECK(visits(pool, 10) == std::vector<int>(10, 1));
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    _exit(visits(pool, 100) == std::vector<int>(100, 1) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
