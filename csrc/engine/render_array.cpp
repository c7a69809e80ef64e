#include "engine/render_array.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace fxfast {
namespace {

// A segment repeats the warm-up: this long it costs 1/16 at most.
constexpr std::size_t kSegmentWarmUps = 16;
constexpr std::size_t kMinSegmentSamples = 4096;
constexpr std::size_t kItemsPerThread = 4;

std::size_t segments_per_row(const PlanView& plan, std::size_t threads, std::size_t streams,
                             std::size_t samples) {
  // What hears everything before it cannot start in the middle.
  if (threads <= 1 || plan.is_recurrent()) return 1;
  const std::size_t wanted = (threads * kItemsPerThread + streams - 1) / streams;
  const std::size_t shortest =
      std::max(kMinSegmentSamples, plan.warm_up_samples() * kSegmentWarmUps);
  return std::max<std::size_t>(1, std::min(wanted, samples / shortest));
}

void make_states(const PlanView& plan, std::size_t count, std::vector<AlignedBuffer>& states) {
  while (states.size() < count) states.emplace_back(plan.state_bytes());
}

// Rows of a recurrent plan, in groups of as many as the kernels take at once and as leave work for
// every thread.
void render_groups(const PlanView& plan, const KernelTable& kernels, const std::byte* settled,
                   WorkerPool& pool, const float* input, float* output, std::size_t streams,
                   std::size_t samples, std::vector<AlignedBuffer>& states, const KnobRows& knobs) {
  const auto threads = static_cast<std::size_t>(pool.threads());
  const std::size_t most =
      std::min<std::size_t>(kMaxRecurrentStreams, (streams + threads - 1) / threads);
  const std::size_t groups = (streams + most - 1) / most;
  make_states(plan, std::min(threads, groups) * most, states);
  pool.run(static_cast<int>(groups), [&](int group, int worker) {
    const std::size_t first = static_cast<std::size_t>(group) * most;
    const std::size_t count = std::min(most, streams - first);
    BatchStream batch[kMaxRecurrentStreams];
    for (std::size_t s = 0; s < count; ++s) {
      std::byte* state = states[static_cast<std::size_t>(worker) * most + s].data();
      copy_state(plan, settled, state);
      batch[s] = {state, input + (first + s) * samples, output + (first + s) * samples, knobs};
    }
    run_block_batch(plan, kernels, batch, count, samples);
  });
}

}  // namespace

void render_array(const PlanView& plan, const KernelTable& kernels, const std::byte* settled,
                  WorkerPool& pool, const float* input, float* output, std::size_t streams,
                  std::size_t samples, std::vector<AlignedBuffer>* kept, const KnobRows& knobs) {
  if (streams == 0 || samples == 0) return;
  std::vector<AlignedBuffer> own;
  std::vector<AlignedBuffer>& states = kept != nullptr ? *kept : own;
  if (plan.is_recurrent() && !plan.has_grid()) {
    return render_groups(plan, kernels, settled, pool, input, output, streams, samples, states,
                         knobs);
  }
  const auto threads = static_cast<std::size_t>(pool.threads());
  const std::size_t segments = segments_per_row(plan, threads, streams, samples);
  const std::size_t segment_samples =
      round_up((samples + segments - 1) / segments, plan.alignment_samples());
  const std::size_t items = streams * segments;

  make_states(plan, std::min(threads, items), states);
  const auto render_segment = [&](int item, int worker) {
    const std::size_t row = static_cast<std::size_t>(item) / segments;
    const std::size_t begin = static_cast<std::size_t>(item) % segments * segment_samples;
    const std::size_t end = std::min(samples, begin + segment_samples);
    if (begin >= end) return;
    const std::size_t warm = std::min(begin, plan.warm_up_samples());
    std::byte* state = states[static_cast<std::size_t>(worker)].data();
    copy_state(plan, settled, state);
    const float* x = input + row * samples;
    run_block(plan, kernels, state, x + begin - warm, nullptr, warm, knobs.after(begin - warm));
    run_block(plan, kernels, state, x + begin, output + row * samples + begin, end - begin,
              knobs.after(begin));
  };
  pool.run(static_cast<int>(items), render_segment);
}

}  // namespace fxfast
