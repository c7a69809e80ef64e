#include "engine/stream_state.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"
#include "engine/delay.h"
#include "engine/level_gain.h"
#include "engine/run_block.h"

namespace fxfast {

namespace {

// A recurrent layer has heard enough silence when a look finds a state of before: one that comes
// back goes round for ever, so looks may be as near as the first ones are; later ones cost less
// often. One that never rests has heard enough after this much of it, or after this much work.
constexpr std::int64_t kFirstLook = 1 << 6;
constexpr std::int64_t kSilenceBetweenLooks = 1 << 12;
constexpr std::int64_t kLongestSilence = 1 << 18;
constexpr std::int64_t kMostMultiplyAdds = std::int64_t{1} << 36;

// Floats of an operation's state that hold something of all the samples before; 0 for none.
std::size_t lasting_floats(const PlanOp& op) noexcept {
  const auto kind = static_cast<OpKind>(op.kind);
  if (kind == OpKind::kLevelGain) return kGainStateFloats;
  if (kind != OpKind::kRecurrent) return 0;
  return static_cast<std::size_t>(cell_state_floats(op.out_channels));
}

void set_initial_cells(const PlanView& plan, std::byte* state) noexcept {
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    const float* params = plan.floats(op.params_offset);
    if (op.kind == static_cast<std::uint32_t>(OpKind::kLevelGain)) {
      const GainState initial = initial_gain_state(params);
      std::memcpy(state + op.cell_offset, &initial, sizeof(initial));
    } else if (const std::size_t floats = lasting_floats(op); floats > 0) {
      std::memcpy(state + op.cell_offset, params, floats * sizeof(float));
    }
  }
}

std::uint64_t hash_of_cells(const PlanView& plan, const std::byte* state) noexcept {
  std::uint64_t hash = 1;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    const std::size_t floats = lasting_floats(op);
    for (std::size_t f = 0; f < floats; ++f) {
      std::uint32_t bits;
      std::memcpy(&bits, state + op.cell_offset + f * sizeof(float), sizeof(bits));
      hash = (hash ^ bits) * 0xff51afd7ed558ccdull;
    }
  }
  return hash;
}

void play_silence(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                  std::int64_t samples, const float* knobs) noexcept {
  run_block(plan, kernels, state, nullptr, nullptr,
            round_up(static_cast<std::size_t>(samples), plan.grid_samples()), {knobs, 0});
}

void rest_delays(const PlanView& plan, std::byte* state) noexcept {
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (!op.is_delay()) continue;
    rest_delay(plan.floats(op.params_offset), reinterpret_cast<float*>(state + op.cell_offset),
               static_cast<std::ptrdiff_t>(op.dilation));
  }
}

void play_for_ever(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                   const float* knobs) noexcept {
  if (!plan.is_recurrent()) {
    // Then no history holds anything of the start any more.
    return play_silence(plan, kernels, state, static_cast<std::int64_t>(plan.warm_up_samples()),
                        knobs);
  }
  auto histories = static_cast<std::int64_t>(plan.warm_up_samples());
  for (std::size_t l = 0; l < plan.line_count(); ++l) histories += plan.line(l).history;
  play_silence(plan, kernels, state, histories, knobs);
  // Rounding makes rounds of 3 or 5 samples as well as of 1: no distance of looks is a multiple of
  // all, so each is held against a mark, which moves on ever less often (R. P. Brent, An improved
  // Monte Carlo factorization algorithm, BIT 20, 1980, section 2).
  std::uint64_t before = 0, mark = 0;
  std::int64_t looks = 0, mark_moves_at = 1;
  const std::int64_t longest =
      std::min(kLongestSilence, kMostMultiplyAdds / plan.multiply_adds_per_sample());
  std::int64_t look = kFirstLook;
  for (std::int64_t played = 0; played < longest; played += look) {
    if (played >= 2 * look) look = std::min(2 * look, kSilenceBetweenLooks);
    play_silence(plan, kernels, state, look, knobs);
    const std::uint64_t now = hash_of_cells(plan, state);
    if (now == before || now == mark) break;
    before = now;
    if (++looks == mark_moves_at) {
      mark = now;
      mark_moves_at *= 2;
    }
  }
  // A filter remembers the layers before it as they were on the way.
  if (plan.alignment_samples() > 1) play_silence(plan, kernels, state, histories, knobs);
}

}  // namespace

void settle(const PlanView& plan, const KernelTable& kernels, std::byte* state,
            const float* knobs) noexcept {
  std::memset(state, 0, plan.state_bytes());
  auto* header = reinterpret_cast<StateHeader*>(state);
  header->fingerprint = plan.header().fingerprint;
  set_initial_cells(plan, state);
  header->is_settling = 1;
  play_for_ever(plan, kernels, state, knobs);
  header->is_settling = 0;
  rest_delays(plan, state);
}

void copy_state(const PlanView& plan, const std::byte* settled, std::byte* state) noexcept {
  const auto copy = [&](std::uint64_t begin, std::uint64_t bytes) {
    std::memcpy(state + begin, settled + begin, bytes);
  };
  copy(0, sizeof(StateHeader));
  std::uint64_t end = sizeof(StateHeader);
  for (std::size_t l = 0; l < plan.line_count(); ++l) {
    const PlanLine& line = plan.line(l);
    const std::uint64_t row = std::uint64_t{line.stride} * sizeof(float);
    const bool spans_grid = line.group == kSpansGrid && line.lane_block == 0;
    for (std::uint32_t c = 0; line.history > 0 && c < line.channels; ++c) {
      copy(line.offset + c * row, spans_grid ? line.history * sizeof(float) : row);
    }
    end = line.carry_offset();
    if (line.lane_block > 0) {
      const std::uint64_t carried = std::uint64_t{line.history} * line.channels * sizeof(float);
      copy(end, carried);
      end += carried;
    }
  }
  copy(end, plan.header().work_offset - end);
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

void check_block(const PlanView& plan, const std::byte* state, std::size_t samples) {
  StateHeader header;
  std::memcpy(&header, state, sizeof(header));
  if (header.has_ended != 0 && samples > 0) {
    throw InputError("audio: expected no more samples after a block that is no multiple of " +
                     std::to_string(plan.grid_samples()) +
                     " (grid_samples) and ends the stream, got " + std::to_string(samples));
  }
}

}  // namespace fxfast
