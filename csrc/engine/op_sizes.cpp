#include "engine/op_sizes.h"

#include <string>

#include "base/check.h"
#include "engine/delay.h"

namespace fxfast {
namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw ModelError("plan: expected a whole and consistent plan, got " + what);
}

}  // namespace

void check_conv_sizes(const PlanOp& op) {
  require(op.in_channels >= 1 && op.in_channels <= kMaxChannels, "bad input channels");
  require(op.taps >= 1 && op.dilation >= 1, "zero taps or dilation");
  require(std::uint64_t{op.taps - 1} * op.dilation < kMaxReceptiveField,
          "a history beyond the limit");
  const std::uint64_t per_tap = std::uint64_t{op.in_channels} * op.out_channels;
  require(per_tap * op.taps <= kMaxParameters, "more parameters than the limit");
}

void check_filter_sizes(const PlanOp& op) {
  require(op.in_channels == 1 && op.out_channels == 1 && op.dilation == 1,
          "a filter of several channels");
  require(op.taps >= 1 && op.taps <= kMaxReceptiveField, "bad taps of a filter");
  require(op.activation == static_cast<std::uint32_t>(Activation::kNone),
          "an activation of another operation");
  require(op.step == 0 || op.step == static_cast<std::uint32_t>(OfflineFilterLayout(op.taps).step),
          "a bad step of a filter");
}

void check_delay_sizes(const PlanOp& op) {
  require(op.in_channels == 1 && op.out_channels == 1, "a delay of several channels");
  require(op.taps >= 1 && op.taps <= kMaxDelayNumbers, "bad numbers of a delay");
  require(op.dilation <= delay_ring_samples(kMaxDelaySamples), "a ring beyond the limit");
  require(op.activation == static_cast<std::uint32_t>(Activation::kNone) && op.step == 0 &&
              op.transform == 0,
          "an activation, a step or a transform of another operation");
}

// The numbers say where a delay reads: they are looked at like the tables.
void check_level_gain_sizes(const PlanOp& op) {
  require(op.out_channels == 1 && op.in_channels >= kMinCurvePoints &&
              op.in_channels <= kMaxCurvePoints &&
              op.activation == static_cast<std::uint32_t>(Activation::kNone),
          "bad sizes of a level-dependent gain");
}

void check_delays(const PlanView& plan) {
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (!op.is_delay()) continue;
    const float* numbers = plan.floats(op.params_offset);
    const DelaySizes sizes = check_delay(numbers, op.taps, "plan");
    require(op.dilation == delay_ring_samples(sizes.longest), "another ring of a delay");
    require(numbers[kShortest] == static_cast<float>(sizes.shortest), "another shortest delay");
  }
}

}  // namespace fxfast
