// The kernel: every team plays its jobs, group by group, from the first sample to the last.
#pragma once

#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/delay.cuh"
#include "kernels/cuda/gain.cuh"
#include "kernels/cuda/recurrent.cuh"
#include "kernels/cuda/stack.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/cuda/tail.cuh"

namespace fxfast::cuda {

// kMostRows: of weights that a recurrent operation holds in registers; kNoCells: there is no such
// operation, and convolutions are what counts; kWideCells: more threads than registers for tiles;
// kStacks: there are stacks of layers, of so many times a thread; kMixed: there are delays, gains
// that follow a level or long filters.

// Output channels of a tile of a convolution, at most.
constexpr int most_outs(int most_rows) {
  if (most_rows == kNoCells) return 8;
  return most_rows == kWideCells ? 1 : 4;
}

template <int kMostRows>
FXFAST_DEVICE void run_op(const Team& team, const CudaOp& op) {
  switch (op.kind) {
    case CudaOpKind::kInput: return read_input<(kMostRows > 0)>(team, op);
    case CudaOpKind::kFetch: return fetch_history(team, op);
    case CudaOpKind::kStore: return store_history(team, op);
    case CudaOpKind::kConv:
      if constexpr (kMostRows == kStagedConvs) {
        if (op.outs == kStagedOuts) {
          return op.steps == 8 ? conv_staged<8>(team, op) : conv_staged<4>(team, op);
        }
      }
      return convolve<most_outs(kMostRows)>(team, op);
    case CudaOpKind::kActivate: return activate(team, op);
    case CudaOpKind::kCombine: return combine(team, op);
    case CudaOpKind::kRecurrent:
      if constexpr (kMostRows >= 0 || kMostRows == kWideCells || kMostRows == kMixed) {
        recur<(kMostRows > 0 ? kMostRows : 0)>(team, op);
      }
      return;
    case CudaOpKind::kStack:
      if constexpr (stack_times(kMostRows) > 0) {
        play_any_stack<stack_times(kMostRows)>(team, op);
      }
      return;
    case CudaOpKind::kDelay:
      if constexpr (kMostRows == kMixed) delay_line(team, op);
      return;
    case CudaOpKind::kGain:
      if constexpr (kMostRows == kMixed) level_gain(team, op);
      return;
    case CudaOpKind::kTail:
      if constexpr (kMostRows == kMixed) filter_tail(team, op);
      return;
    case CudaOpKind::kOutput: return write_output<(kMostRows > 0)>(team, op);
  }
}

// New streams begin with no samples and with the cells of the plan.
FXFAST_DEVICE void start_states(const Team& team) {
  const CudaHeader& header = header_of(*team.run);
  const CudaOp* ops = ops_of(*team.run);
  for (int s = 0; s < team.streams; ++s) {
    if (team.jobs[s].state >= 0) continue;
    float* state = team.state(s);
    if (thread_index() < kStatePrefix) state[thread_index()] = 0.0f;
    for (std::uint32_t i = 0; i < header.op_count; ++i) {
      const CudaOp& op = ops[i];
      for (int u = thread_index(); u < op.cell_floats; u += thread_count()) {
        state[op.state + u] = floats_of(*team.run)[op.cells + u];
      }
    }
  }
}

FXFAST_DEVICE void end_states(const Team& team) {
  for (int s = thread_index(); s < team.streams; s += thread_count()) {
    if (team.jobs[s].state >= 0) {
      *reinterpret_cast<std::int64_t*>(team.state(s)) += team.total(s);
    }
  }
}

template <int kMostRows>
FXFAST_DEVICE void play_group(Team& team) {
  const CudaHeader& header = header_of(*team.run);
  const CudaOp* ops = ops_of(*team.run);
  std::int64_t longest = 0;
  for (int s = 0; s < team.streams; ++s) {
    longest = team.total(s) > longest ? team.total(s) : longest;
  }
  start_states(team);
  wait_for_all();
  for (team.played = 0; team.played < longest; team.played += header.block_samples) {
    for (std::uint32_t i = 0; i < header.op_count; ++i) {
      if (ops[i].barrier != 0) wait_for_all();
      run_op<kMostRows>(team, ops[i]);
    }
  }
  wait_for_all();
  end_states(team);
  wait_for_all();
}

template <int kMostRows>
FXFAST_DEVICE void play_jobs(const CudaRun& run) {
  const CudaHeader& header = header_of(run);
  float* shared = shared_memory();
  const float* floats = floats_of(run);
  for (std::uint32_t i = static_cast<std::uint32_t>(thread_index()); i < header.shared_weights;
       i += static_cast<std::uint32_t>(thread_count())) {
    shared[i] = floats[i];
  }
  wait_for_all();
  Team team;
  team.run = &run;
  team.floats = header.shared_weights > 0 ? shared : floats;
  team.slots = shared + header.slots_at;
  team.slot_floats = static_cast<std::int32_t>(header.slot_floats);
  const int width = static_cast<int>(header.team_streams);
  for (std::int64_t first = std::int64_t{team_index()} * width; first < run.job_count;
       first += std::int64_t{team_count()} * width) {
    const std::int64_t left = run.job_count - first;
    team.jobs = run.jobs + first;
    team.streams = left < width ? static_cast<int>(left) : width;
    play_group<kMostRows>(team);
  }
}

}  // namespace fxfast::cuda
