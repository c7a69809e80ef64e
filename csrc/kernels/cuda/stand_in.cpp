// The stand-in of the CUDA kernels: the same device code on the CPU, behind the same interface. The
// threads of a team are fibers that take turns at every barrier, of a warp or of all, so that a
// test finds what a barrier is missing for: threads run in an order that a seed shuffles, and warps
// go ahead of each other.
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_interface.h"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/play.cuh"
#include "kernels/cuda/sample.cuh"

namespace fxfast::cuda {

thread_local StandInThread stand_in;

namespace {

struct PendingCopy {
  float* to;
  const float* from;
  std::size_t floats;
};
// Of each fiber of the team that plays.
thread_local std::vector<std::vector<PendingCopy>> pending;

void copy_later(float* to, const float* from, std::size_t floats) {
  const std::size_t bytes = floats * sizeof(float);
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    std::abort();
  }
  const auto thread = static_cast<std::size_t>(stand_in.thread);
  if (pending.size() <= thread) pending.resize(thread + 1);
  pending[thread].push_back({to, from, floats});
}

}  // namespace

void copy_async(float* to, const float* from) { copy_later(to, from, 1); }
void copy_four_async(float* to, const float* from) { copy_later(to, from, 4); }

void wait_for_copies() {
  const auto thread = static_cast<std::size_t>(stand_in.thread);
  if (pending.size() <= thread) return;
  for (const PendingCopy& copy : pending[thread]) {
    std::memcpy(copy.to, copy.from, copy.floats * sizeof(float));
  }
  pending[thread].clear();
}

namespace {

constexpr std::size_t kStackBytes = 64 * 1024;
constexpr int kSharedBytes = 227 * 1024;

// One team at a time, its threads as fibers.
class TeamOfFibers {
 public:
  using Body = void (*)(const void*);

  TeamOfFibers(Body body, const void* run, int threads, int shared_bytes)
      : body_(body),
        run_(run),
        shared_(static_cast<std::size_t>(shared_bytes) / sizeof(float) + 4),
        stacks_(static_cast<std::size_t>(threads)),
        fibers_(static_cast<std::size_t>(threads)),
        places_(static_cast<std::size_t>(threads)),
        order_(static_cast<std::size_t>(threads)) {
    for (auto& stack : stacks_) stack = std::make_unique<char[]>(kStackBytes);
    std::iota(order_.begin(), order_.end(), std::size_t{0});
  }

  void play(int team, int teams) {
    current_ = this;
    // Memory that was not written is not zero.
    for (float& value : shared_) value = 1e30f;
    auto* aligned =
        reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(shared_.data()) + 15) / 16 * 16);
    stand_in = {
        0,    static_cast<int>(fibers_.size()), team, teams, aligned, &TeamOfFibers::wait, false,
        false};
    for (std::size_t i = 0; i < fibers_.size(); ++i) start(i);
    while (release()) {
      shuffle();
      // Warps go ahead of each other.
      const std::uint64_t resting = seed_ >> 32;
      for (const std::size_t i : order_) {
        if (places_[i] != Place::kRuns || (resting >> i / kWarp % 32 & 1) != 0) continue;
        running_ = i;
        stand_in.thread = static_cast<int>(i);
        swapcontext(&scheduler_, &fibers_[i]);
      }
    }
  }

 private:
  enum class Place { kRuns, kAtWarp, kAtAll, kDone };

  void start(std::size_t i) {
    ucontext_t& fiber = fibers_[i];
    getcontext(&fiber);
    fiber.uc_stack.ss_sp = stacks_[i].get();
    fiber.uc_stack.ss_size = kStackBytes;
    fiber.uc_link = &scheduler_;
    places_[i] = Place::kRuns;
    makecontext(&fiber, &TeamOfFibers::enter, 0);
  }
  static void enter() {
    current_->body_(current_->run_);
    current_->places_[current_->running_] = Place::kDone;
  }
  static void wait(bool for_warp) {
    current_->places_[current_->running_] = for_warp ? Place::kAtWarp : Place::kAtAll;
    swapcontext(&current_->fibers_[current_->running_], &current_->scheduler_);
  }

  // Whether every thread of [begin, end) that is not done is at `place`; they go on then.
  bool release(std::size_t begin, std::size_t end, Place place) {
    for (std::size_t i = begin; i < end; ++i) {
      if (places_[i] != place && places_[i] != Place::kDone) return false;
    }
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) {
      if (places_[i] == place) places_[i] = Place::kRuns, any = true;
    }
    return any;
  }

  // Lets those go on whose wait is over; whether any thread can. Where threads wait for each other
  // at different places, for ever on a GPU, that is a fault.
  bool release() {
    release(0, places_.size(), Place::kAtAll);
    for (std::size_t first = 0; first < places_.size(); first += kWarp) {
      release(first, std::min(first + kWarp, places_.size()), Place::kAtWarp);
    }
    bool all_done = true;
    for (const Place place : places_) {
      if (place == Place::kRuns) return true;
      all_done = all_done && place == Place::kDone;
    }
    if (!all_done) stand_in.waits_for_ever = true;
    return false;
  }

  void shuffle() {
    for (std::size_t left = order_.size(); left > 1; --left) {
      seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
      std::swap(order_[left - 1], order_[(seed_ >> 33) % left]);
    }
  }

  static thread_local TeamOfFibers* current_;
  Body body_;
  const void* run_;
  std::vector<float> shared_;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::vector<ucontext_t> fibers_;
  std::vector<Place> places_;
  std::vector<std::size_t> order_;
  ucontext_t scheduler_{};
  std::size_t running_ = 0;
  std::uint64_t seed_ = 1;
};

thread_local TeamOfFibers* TeamOfFibers::current_ = nullptr;

template <int kMostRows>
void play_body(const void* run) {
  play_jobs<kMostRows>(*static_cast<const CudaRun*>(run));
}

void sample_body(const void* run) { sample_rows(*static_cast<const SampleRun*>(run)); }
void lanes_body(const void* run) { sample_lanes(*static_cast<const LaneRun*>(run)); }
void go_to_lanes_body(const void* step) { go_to_lanes(*static_cast<const LaneStep*>(step)); }

TeamOfFibers::Body body_of(int threads, int register_rows) {
  if (register_rows == kStagedConvs) return play_body<kStagedConvs>;
  if (register_rows == kStacks3) return play_body<kStacks3>;
  if (register_rows == kStacks4) return play_body<kStacks4>;
  if (register_rows == kStacks8) return play_body<kStacks8>;
  if (register_rows == kMixed) return play_body<kMixed>;
  if (register_rows < 0) return play_body<kNoCells>;
  if (threads > kConvThreads) return play_body<kWideCells>;
  if (register_rows > kFewRows) return play_body<kManyRows>;
  return register_rows > 0 ? play_body<kFewRows> : play_body<0>;
}

}  // namespace
}  // namespace fxfast::cuda

using namespace fxfast::cuda;

namespace {

constexpr int kInvalid = 1, kOutOfMemory = 2, kMisaligned = 3, kWaits = 4;
// What may be allocated, so that tests can run out of it.
std::atomic<long long> memory_left = 1ll << 40;

// Memory knows its size, so that freeing gives it back.
int allocate(void** memory, long long bytes) {
  if (bytes < 0) return kInvalid;
  if (bytes > memory_left) return kOutOfMemory;
  auto* block = static_cast<long long*>(std::malloc(static_cast<std::size_t>(bytes) + 64));
  if (block == nullptr) return kOutOfMemory;
  memory_left -= bytes;
  *block = bytes;
  *memory = reinterpret_cast<char*>(block) + 64;
  return 0;
}

int release(void* memory) {
  if (memory == nullptr) return 0;
  auto* block = reinterpret_cast<long long*>(static_cast<char*>(memory) - 64);
  memory_left += *block;
  std::free(block);
  return 0;
}

}  // namespace

FXFAST_CUDA_API const char* fxfast_cuda_error(int status) {
  if (status == kOutOfMemory) return "out of memory";
  if (status == kMisaligned) return "misaligned address";
  if (status == kWaits) return "threads wait for each other for ever";
  return status == kInvalid ? "invalid argument" : "no error";
}

// Of the stand-in alone.
FXFAST_CUDA_API void fxfast_stand_in_set_memory(long long bytes) { memory_left = bytes; }
FXFAST_CUDA_API long long fxfast_stand_in_memory() { return memory_left; }

FXFAST_CUDA_API int fxfast_cuda_device_count(int* count) { return *count = 1, 0; }
FXFAST_CUDA_API int fxfast_cuda_use(int device) { return device == 0 ? 0 : kInvalid; }
FXFAST_CUDA_API int fxfast_cuda_used(int* device) { return *device = 0; }
FXFAST_CUDA_API int fxfast_cuda_allocate(void** memory, long long bytes) {
  return allocate(memory, bytes);
}
FXFAST_CUDA_API int fxfast_cuda_free(void* memory) { return release(memory); }
FXFAST_CUDA_API int fxfast_cuda_allocate_pinned(void** memory, long long bytes) {
  return allocate(memory, bytes);
}
FXFAST_CUDA_API int fxfast_cuda_free_pinned(void* memory) { return release(memory); }
FXFAST_CUDA_API int fxfast_cuda_copy(void* to, const void* from, long long bytes, void*) {
  if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  return 0;
}
FXFAST_CUDA_API int fxfast_cuda_new_stream(void** stream) { return *stream = nullptr, 0; }
FXFAST_CUDA_API int fxfast_cuda_free_stream(void*) { return 0; }
FXFAST_CUDA_API int fxfast_cuda_wait(void*) { return 0; }
FXFAST_CUDA_API int fxfast_cuda_out_of_memory() { return kOutOfMemory; }

FXFAST_CUDA_API int fxfast_cuda_device(int device, FxfastCudaDevice* out) {
  if (device != 0) return kInvalid;
  *out = {2, kSharedBytes, 0, 0};
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_prepare(int threads, int, int shared_bytes, int* teams) {
  if (threads < 1 || threads > kMaxRecurrentThreads || shared_bytes > kSharedBytes) return kInvalid;
  *teams = 1;
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_play(const FxfastCudaRun* run, int teams, int threads,
                                     int register_rows, int shared_bytes, void*) {
  const CudaRun device_run{static_cast<const std::byte*>(run->plan),
                           static_cast<const CudaJob*>(run->jobs),
                           run->input,
                           run->knobs,
                           run->output,
                           run->states,
                           run->team_states,
                           run->job_count};
  TeamOfFibers fibers(body_of(threads, register_rows), &device_run, threads, shared_bytes);
  for (int team = 0; team < teams; ++team) {
    fibers.play(team, teams);
    if (stand_in.is_misaligned) return kMisaligned;
    if (stand_in.waits_for_ever) return kWaits;
  }
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_sample(const void* run, int teams, void*) {
  TeamOfFibers fibers(sample_body, run, kSampleThreads, kSampleThreads * sizeof(SampleRow));
  for (int team = 0; team < teams; ++team) fibers.play(team, teams);
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_go_to_batch(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void*) {
  go_to_batch(*static_cast<const SamplePlan*>(plan), *static_cast<SampleState*>(state), next != 0,
              epoch, number);
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_sample_state_bytes() { return sizeof(SampleState); }

FXFAST_CUDA_API int fxfast_cuda_sample_lanes(const void* run, int teams, void*) {
  TeamOfFibers fibers(lanes_body, run, kSampleThreads, kMostSampleRows * sizeof(LaneRow));
  for (int team = 0; team < teams; ++team) fibers.play(team, teams);
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_go_to_lanes(const void* plan, void* state, int next,
                                            unsigned long long epoch, unsigned long long number,
                                            void*) {
  const LaneStep step{static_cast<const LanePlan*>(plan), static_cast<LaneState*>(state), next,
                      epoch, number};
  TeamOfFibers(go_to_lanes_body, &step, kSampleThreads, 0).play(0, 1);
  return 0;
}

FXFAST_CUDA_API int fxfast_cuda_lane_state_bytes() { return sizeof(LaneState); }

FXFAST_CUDA_API int fxfast_cuda_burst(int teams, float*, double* operations, void*) {
  *operations = teams;
  return 0;
}
