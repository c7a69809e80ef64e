// Where everything of a plan and of a stream's state stands.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/buffers.h"
#include "engine/delay.h"
#include "engine/filter.h"
#include "engine/level_gain.h"
#include "engine/packed_plan.h"
#include "engine/stream_state.h"
#include "kernels/pack_spectra.h"
#include "kernels/pack_weights.h"

namespace fxfast {

// The part of the layout that follows from the sizes: the same arithmetic packs a plan and
// checks one, so a plan whose offsets differ by a byte is refused.
class PlanLayout {
 public:
  explicit PlanLayout(const PlanHeader& header)
      : header_(header),
        plan_bytes_(round_up(sizeof(PlanHeader) + header.line_count * sizeof(PlanLine) +
                                 header.op_count * sizeof(PlanOp),
                             kCacheLineBytes)),
        state_bytes_(sizeof(StateHeader)) {}

  // Sets stride and offset of a line whose channels and history are set and within the limits.
  void place(PlanLine& line) {
    // A line without history starts anew with every block and stays in the first-level cache.
    std::uint32_t samples =
        line.history == 0 ? header_.block_samples : line.history + header_.stretch_samples;
    if (line.group == kSpansGrid) samples = line.history + header_.grid_samples;
    if (line.lane_block > 0) samples = (line.history + line.lane_block) * kLanes;
    line.stride = row_floats(samples);
    const std::uint32_t carry = line.lane_block > 0 ? line.history : 0;
    line.offset = take(state_bytes_, (std::uint64_t{line.stride} + carry) * line.channels);
  }

  // Sets the offsets of an operation whose sizes are set and within the limits.
  void place(PlanOp& op) {
    const auto kind = static_cast<OpKind>(op.kind);
    const std::uint64_t outs = op.out_channels;
    std::uint64_t weights = 0, bias = 0, cell = 0;
    auto params = static_cast<std::uint64_t>(activation_params(
        static_cast<Activation>(op.activation), static_cast<int>(op.out_channels)));
    if (kind == OpKind::kConv) {
      weights = outs * op.in_channels * op.taps;
      bias = outs;
      if (op.transform > 0) {
        const int taps = static_cast<int>(op.taps);
        weights = static_cast<std::uint64_t>(spectra_floats(op.out_channels, op.in_channels, taps));
        const std::ptrdiff_t work = spectral_work_floats(spectral_rows_in(op.in_channels, taps),
                                                         spectral_rows_out(op.out_channels));
        share_work(static_cast<std::uint64_t>(work));
      }
    } else if (kind == OpKind::kRecurrent) {
      const int units = static_cast<int>(op.out_channels);
      weights = static_cast<std::uint64_t>(recurrent_weight_floats(op.in_channels, units));
      bias = 4 * static_cast<std::uint64_t>(recurrent_lanes(units));
      params = static_cast<std::uint64_t>(cell_state_floats(op.out_channels));
      cell = static_cast<std::uint64_t>(recurrent_state_floats(op.in_channels, op.out_channels));
    } else if (kind == OpKind::kFilter) {
      const FilterLayout filter(op.taps);
      const OfflineFilterLayout offline(op.taps);
      weights = op.step > 0 ? offline.packed_floats : filter.packed_floats;
      bias = outs;
      cell = op.step > 0 ? offline.state_floats : filter.state_floats;
      share_work(op.step > 0 ? offline.work_floats : filter.work_floats);
    } else if (kind == OpKind::kDelay) {
      params = op.taps;
      cell = static_cast<std::uint64_t>(delay_state_floats(op.dilation));
    } else if (kind == OpKind::kLevelGain) {
      params = static_cast<std::uint64_t>(gain_params(op.in_channels));
      cell = kGainStateFloats;
    }
    op.weights_offset = weights == 0 ? 0 : take(plan_bytes_, weights);
    op.bias_offset = bias == 0 ? 0 : take(plan_bytes_, bias);
    op.params_offset = params == 0 ? 0 : take(plan_bytes_, params);
    op.cell_offset = cell == 0 ? 0 : take(state_bytes_, cell);
  }

  void finish(PlanHeader& header) const {
    header.plan_bytes = plan_bytes_;
    header.state_bytes = state_bytes_;
    header.work_offset = take(header.state_bytes, work_floats_);
  }

 private:
  void share_work(std::uint64_t floats) { work_floats_ = std::max(work_floats_, floats); }

  static std::uint64_t take(std::uint64_t& total, std::uint64_t floats) {
    const std::uint64_t offset = total;
    total = round_up(offset + floats * sizeof(float), kCacheLineBytes);
    return offset;
  }

  // An odd number of cache lines, so that the rows of a line spread over all cache sets.
  static std::uint32_t row_floats(std::uint32_t samples) {
    constexpr std::uint32_t kLine = kCacheLineBytes / sizeof(float);
    const auto lines =
        static_cast<std::uint32_t>(round_up(samples + kMaxVectorFloats, kLine) / kLine);
    return (lines | 1u) * kLine;
  }

  PlanHeader header_;
  std::uint64_t plan_bytes_;
  std::uint64_t state_bytes_;
  std::uint64_t work_floats_ = 0;
};

}  // namespace fxfast
