#include "engine/run_block.h"

#include <algorithm>
#include <cstring>
#include <optional>

#ifdef FXFAST_X86_64
#include <xmmintrin.h>
#endif

#include "engine/pass.h"

namespace fxfast {
namespace {

// Denormal numbers cost a hundred cycles each; inside the engine they are zero.
class FlushDenormals {
 public:
#ifdef FXFAST_X86_64
  FlushDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  FlushDenormals() noexcept {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (1ull << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
  FlushDenormals() noexcept {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#ifdef FXFAST_X86_64
  unsigned saved_;
#elif defined(__aarch64__)
  unsigned long long saved_;
#endif
};

// Whole vectors, upwards, each read before it is written; rows have room for them.
void move_history_back(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                       std::uint32_t group, std::uint32_t position) noexcept {
  for (std::size_t l = 0; l < plan.line_count(); ++l) {
    const PlanLine& line = plan.line(l);
    if (line.history == 0 || line.group != group) continue;
    float* rows = line_at(state, line.offset);
    kernels.activate({rows + position, rows, nullptr, line.stride, line.stride,
                      static_cast<int>(line.channels), static_cast<int>(line.history),
                      Activation::kNone});
  }
}

// `values` has room for `wanted` samples; nullptr is silence.
void copy_in(float* values, const float* input, std::uint32_t samples,
             std::uint32_t wanted) noexcept {
  if (input == nullptr) samples = 0;
  if (samples > 0) std::memcpy(values, input, samples * sizeof(float));
  std::memset(values + samples, 0, (wanted - samples) * sizeof(float));
}

// The values go on as they end where more are wanted than there are.
void copy_knobs(const PlanView& plan, const Pass& pass, const KnobRows& knobs,
                std::uint32_t samples, std::uint32_t wanted) noexcept {
  for (std::uint32_t c = 1; c < plan.line(0).channels; ++c) {
    float* row = pass.rows({0, c});
    float value = 0.0f;
    std::uint32_t copied = 0;
    if (knobs.values != nullptr && knobs.stride == 0) {
      value = knobs.values[c - 1];
    } else if (knobs.values != nullptr) {
      const float* values = knobs.values + (c - 1) * knobs.stride;
      std::memcpy(row, values, samples * sizeof(float));
      value = values[samples - 1];
      copied = samples;
    }
    std::fill(row + copied, row + wanted, value);
  }
}

Pass start_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                 const float* input, std::uint32_t samples, const KnobRows& knobs) noexcept {
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  if (state_header->position + samples > plan.header().stretch_samples) {
    move_history_back(plan, kernels, state, 0, state_header->position);
    state_header->position = 0;
  }
  const Pass pass(plan, kernels, state, state_header->position, 0, samples);
  copy_in(pass.rows({0, 0}), input, samples, samples);
  copy_knobs(plan, pass, knobs, samples, samples);
  return pass;
}

void end_piece(const PlanView& plan, const Pass& pass, std::byte* state, float* output,
               std::uint32_t samples) noexcept {
  const float* result = pass.rows({plan.header().output_line, 0});
  if (output != nullptr) std::memcpy(output, result, samples * sizeof(float));
  reinterpret_cast<StateHeader*>(state)->position += samples;
}

void run_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::uint32_t samples,
               const KnobRows& knobs) noexcept {
  const Pass pass = start_piece(plan, kernels, state, input, samples, knobs);
  pass.run(0, plan.op_count());
  end_piece(plan, pass, state, output, samples);
}

// One piece of up to kMaxRecurrentStreams streams, `done` samples into their blocks: recurrent
// layers for all streams at once, what is between them stream by stream.
void run_pieces(const PlanView& plan, const KernelTable& kernels, const BatchStream* streams,
                std::size_t count, std::size_t done, std::uint32_t samples) noexcept {
  std::optional<Pass> passes[kMaxRecurrentStreams];
  for (std::size_t s = 0; s < count; ++s) {
    passes[s].emplace(start_piece(plan, kernels, streams[s].state, streams[s].input + done, samples,
                                  streams[s].knobs.after(done)));
  }
  const auto is_recurrent = [&](std::size_t i) {
    return plan.op(i).kind == static_cast<std::uint32_t>(OpKind::kRecurrent);
  };
  for (std::size_t first = 0; first < plan.op_count();) {
    std::size_t end = first;
    while (end < plan.op_count() && !is_recurrent(end)) ++end;
    for (std::size_t s = 0; s < count; ++s) passes[s]->run(first, end);
    first = end;
    if (end < plan.op_count()) {
      first += passes[0]->recurrent(end, count, [&](std::size_t s) { return &*passes[s]; });
    }
  }
  for (std::size_t s = 0; s < count; ++s) {
    end_piece(plan, *passes[s], streams[s].state, streams[s].output + done, samples);
  }
}

// How many samples of the grid operation `first` computes where `samples` of the output are wanted:
// what later operations read, which take whole steps.
std::uint32_t wanted_samples(const PlanView& plan, std::size_t first,
                             std::uint32_t samples) noexcept {
  for (std::size_t i = plan.op_count(); i-- > first;) {
    const std::uint32_t step = plan.op(i).step;
    if (step > 0) samples = static_cast<std::uint32_t>(round_up(samples, step));
  }
  return samples;
}

// The operations of one group over `wanted` samples of a grid, step by step. Returns the position
// of its lines after it: every group of step 0 starts at `position` and takes the same pieces of a
// whole grid; after a part of one, the stream has ended.
std::uint32_t run_group(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                        std::uint32_t group, std::uint32_t position, std::uint32_t wanted,
                        std::size_t first, std::size_t end) noexcept {
  const PlanHeader& header = plan.header();
  const std::uint32_t step = plan.op(first).step;
  const std::uint32_t most = step == 0 ? header.block_samples : step;
  for (std::uint32_t offset = 0; offset < wanted; offset += most) {
    const std::uint32_t left = wanted - offset;
    const std::uint32_t samples = left < most ? left : most;
    if (step == 0 && position + samples > header.stretch_samples) {
      move_history_back(plan, kernels, state, group, position);
      position = 0;
    }
    Pass(plan, kernels, state, position, offset, samples).run(first, end);
    if (step == 0) position += samples;
  }
  return position;
}

// One grid, of which the first `samples` are played.
void run_grid(const PlanView& plan, const KernelTable& kernels, std::byte* state,
              const float* input, float* output, std::uint32_t samples,
              const KnobRows& knobs) noexcept {
  const PlanHeader& header = plan.header();
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  const Pass whole(plan, kernels, state, 0, 0, header.grid_samples);
  copy_in(whole.rows({0, 0}), input, samples, header.grid_samples);
  copy_knobs(plan, whole, knobs, samples, header.grid_samples);
  const std::uint32_t start = state_header->position;
  std::uint32_t group = 0;
  for (std::size_t first = 0, end = 0; first < plan.op_count(); first = end, ++group) {
    while (end < plan.op_count() && plan.op(end).step == plan.op(first).step) ++end;
    const std::uint32_t wanted = wanted_samples(plan, first, samples);
    const std::uint32_t position =
        run_group(plan, kernels, state, group, start, wanted, first, end);
    if (plan.op(first).step == 0) state_header->position = position;
  }
  const float* result = whole.rows({header.output_line, 0});
  if (output != nullptr) std::memcpy(output, result, samples * sizeof(float));
  move_history_back(plan, kernels, state, kSpansGrid, header.grid_samples);
  state_header->has_ended = samples < header.grid_samples ? 1 : 0;
}

// Whether a plan is one long filter, which then can read and write whole grids where they are.
bool is_lone_filter(const PlanView& plan) noexcept {
  return plan.op_count() == 1 && plan.op(0).is_filter() && plan.op(0).step == plan.grid_samples() &&
         plan.line(0).channels == 1;
}

// Plays all whole grids whose history lies before them in `input` itself, `done` samples on, and
// returns how many samples those are.
std::size_t run_in_place(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                         const float* input, float* output, std::size_t samples,
                         std::size_t done) noexcept {
  const PlanOp& op = plan.op(0);
  const std::size_t grid = plan.grid_samples(), history = op.history_samples();
  if (done < history || samples < grid) return 0;
  const FilterTask task = Pass(plan, kernels, state, 0, 0, op.step).filter_task(op);
  std::size_t played = 0;
  for (; samples - played >= grid; played += grid) {
    FilterTask here = task;
    here.input = input + played;
    here.output = output + played;
    run_offline_filter(kernels, here);
  }
  std::memcpy(line_at(state, plan.line(op.a.line).offset), input + played - history,
              history * sizeof(float));
  return played;
}

}  // namespace

void run_block(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::size_t samples,
               const KnobRows& knobs) noexcept {
  const FlushDenormals flush;
  KnobRows rows = knobs;
  const bool has_grid = plan.has_grid();
  const std::size_t piece = has_grid ? plan.grid_samples() : plan.header().block_samples;
  const bool plays_in_place =
      has_grid && input != nullptr && output != nullptr && is_lone_filter(plan);
  for (std::size_t done = 0, n = 0; samples > 0; done += n) {
    n = plays_in_place ? run_in_place(plan, kernels, state, input, output, samples, done) : 0;
    if (n == 0) {
      n = samples < piece ? samples : piece;
      (has_grid ? run_grid : run_piece)(plan, kernels, state, input, output,
                                        static_cast<std::uint32_t>(n), rows);
    }
    rows = rows.after(n);
    if (input != nullptr) input += n;
    if (output != nullptr) output += n;
    samples -= n;
  }
}

void run_block_batch(const PlanView& plan, const KernelTable& kernels, const BatchStream* streams,
                     std::size_t count, std::size_t samples) noexcept {
  if (count == 1 || !plan.is_recurrent() || plan.has_grid()) {
    for (std::size_t s = 0; s < count; ++s) {
      run_block(plan, kernels, streams[s].state, streams[s].input, streams[s].output, samples,
                streams[s].knobs);
    }
    return;
  }
  const FlushDenormals flush;
  const std::size_t most = plan.header().block_samples;
  for (std::size_t first = 0; first < count; first += kMaxRecurrentStreams) {
    const std::size_t together = std::min<std::size_t>(kMaxRecurrentStreams, count - first);
    for (std::size_t done = 0; done < samples; done += most) {
      run_pieces(plan, kernels, streams + first, together, done,
                 static_cast<std::uint32_t>(std::min(most, samples - done)));
    }
  }
}

}  // namespace fxfast
