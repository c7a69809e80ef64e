#include "engine/stream_state.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"
#include "engine/filter.h"
#include "engine/run_block.h"

namespace fxfast {

namespace {

// A recurrent layer has heard enough silence when its state no longer changes, or, for one that
// never rests, after this much of it.
constexpr std::int64_t kSilenceBetweenLooks = 1 << 12;
constexpr std::int64_t kLongestSilence = 1 << 18;

void set_initial_cells(const PlanView& plan, std::byte* state) noexcept {
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (op.kind != static_cast<std::uint32_t>(OpKind::kRecurrent)) continue;
    const auto floats = static_cast<std::size_t>(cell_state_floats(op.out_channels));
    std::memcpy(state + op.cell_offset, plan.floats(op.params_offset), floats * sizeof(float));
  }
}

std::uint64_t hash_of_cells(const PlanView& plan, const std::byte* state) noexcept {
  std::uint64_t hash = 1;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (op.kind != static_cast<std::uint32_t>(OpKind::kRecurrent)) continue;
    const auto floats = static_cast<std::size_t>(cell_state_floats(op.out_channels));
    for (std::size_t f = 0; f < floats; ++f) {
      std::uint32_t bits;
      std::memcpy(&bits, state + op.cell_offset + f * sizeof(float), sizeof(bits));
      hash = (hash ^ bits) * 0xff51afd7ed558ccdull;
    }
  }
  return hash;
}

void play_silence(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                  std::int64_t samples) noexcept {
  constexpr std::int64_t kSilence = 256;
  const float silence[kSilence] = {};
  float ignored[kSilence];
  for (std::int64_t left = samples; left > 0; left -= kSilence) {
    const std::int64_t n = left < kSilence ? left : kSilence;
    run_block(plan, kernels, state, silence, ignored, static_cast<std::size_t>(n));
  }
}

}  // namespace

std::int64_t grid_samples(const PlanView& plan) {
  std::int64_t grid = 1;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (op.kind != static_cast<std::uint32_t>(OpKind::kFilter)) continue;
    grid = std::max<std::int64_t>(grid, FilterLayout(op.taps).grid_samples());
  }
  return grid;
}

std::int64_t warm_up_samples(const PlanView& plan) {
  std::int64_t samples = plan.receptive_field() - 1;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (op.kind != static_cast<std::uint32_t>(OpKind::kFilter)) continue;
    samples += FilterLayout(op.taps).reach_samples() - op.taps;
  }
  const std::int64_t grid = grid_samples(plan);
  return (samples + grid - 1) / grid * grid;
}

void settle(const PlanView& plan, const KernelTable& kernels, std::byte* state) noexcept {
  std::memset(state, 0, plan.state_bytes());
  reinterpret_cast<StateHeader*>(state)->fingerprint = plan.header().fingerprint;
  set_initial_cells(plan, state);
  if (!plan.is_recurrent()) {
    // Then no history holds anything of the start any more.
    return play_silence(plan, kernels, state, warm_up_samples(plan));
  }
  std::int64_t histories = warm_up_samples(plan);
  for (std::size_t l = 0; l < plan.line_count(); ++l) histories += plan.line(l).history;
  play_silence(plan, kernels, state, histories);
  std::uint64_t before = 0;
  for (std::int64_t played = 0; played < kLongestSilence; played += kSilenceBetweenLooks) {
    play_silence(plan, kernels, state, kSilenceBetweenLooks);
    const std::uint64_t now = hash_of_cells(plan, state);
    if (now == before) break;
    before = now;
  }
  // A filter remembers the layers before it as they were on the way.
  if (grid_samples(plan) > 1) play_silence(plan, kernels, state, histories);
}

void check_state(const PlanView& plan, const std::byte* state, std::size_t bytes) {
  if (bytes != plan.state_bytes()) {
    throw InputError("state: expected " + std::to_string(plan.state_bytes()) +
                     " bytes a stream, got " + std::to_string(bytes));
  }
  StateHeader header;
  std::memcpy(&header, state, sizeof(header));
  if (header.fingerprint != plan.header().fingerprint) {
    throw InputError("state: expected the state of this plan, got another plan's or no state");
  }
  if (header.position > plan.header().stretch_samples) {
    throw InputError("state: expected a position up to " +
                     std::to_string(plan.header().stretch_samples) + ", got " +
                     std::to_string(header.position));
  }
}

}  // namespace fxfast
