#include "engine/layer_groups.h"

#include <algorithm>

#include "kernels/kernel_table.h"

namespace fxfast {
namespace {

bool same(const Operand& a, const Operand& b) { return a.line == b.line && a.first == b.first; }

bool is_kind(const PlanOp& op, OpKind kind) { return op.kind == static_cast<std::uint32_t>(kind); }

bool has_no_activation(const PlanOp& op) {
  return op.activation == static_cast<std::uint32_t>(Activation::kNone);
}

bool fits(std::uint32_t channels) {
  return channels <= static_cast<std::uint32_t>(kMaxLayerChannels);
}

// Whether nobody reads `line` from operation `first` on before it is written whole.
bool is_dead(const PlanOp* ops, std::size_t op_count, const PlanLine* lines,
             std::uint32_t output_line, std::uint32_t line, std::size_t first) {
  for (std::size_t i = first; i < op_count; ++i) {
    const PlanOp& op = ops[i];
    if (op.a.line == line || op.b.line == line || op.c.line == line) return false;
    if (op.output.line == line && op.output.first == 0 && op.out_channels == lines[line].channels) {
      return true;
    }
  }
  return line != output_line;
}

// Whether the operation takes any number of samples, on plain lines.
bool is_plain(const PlanOp& op) { return op.step == 0 && op.lane_block == 0; }

// The layer kernel takes panels of output channels: not the packing by taps of a single one.
bool is_conv_of_layer(const PlanOp& op) {
  return is_kind(op, OpKind::kConv) && is_plain(op) && has_no_activation(op) &&
         op.b.line == kNoLine && fits(op.in_channels) && fits(op.out_channels) &&
         !taps_as_channels(static_cast<int>(op.out_channels), static_cast<int>(op.in_channels),
                           static_cast<int>(op.taps));
}

bool is_mixin_of(const PlanOp& op, const PlanOp& conv) {
  return is_kind(op, OpKind::kConv) && is_plain(op) && op.taps == 1 && fits(op.in_channels) &&
         op.out_channels == conv.out_channels && same(op.b, conv.output) &&
         op.a.line != conv.output.line;
}

bool has_bias(const PlanOp& op, const std::byte* plan) {
  const auto* bias = reinterpret_cast<const float*>(plan + op.bias_offset);
  return std::any_of(bias, bias + op.out_channels, [](float value) { return value != 0.0f; });
}

bool is_sum_of(const PlanOp& op, const PlanOp& mixin) {
  if (!is_kind(op, OpKind::kCombine) || !is_plain(op) ||
      op.combine != static_cast<std::uint32_t>(Combine::kAdd) ||
      op.out_channels != mixin.out_channels) {
    return false;
  }
  // One operand is a, and the other is not.
  return same(op.b, mixin.output) ? op.a.line != mixin.output.line
                                  : same(op.a, mixin.output) && op.b.line != mixin.output.line;
}

bool is_residual_of(const PlanOp& op, const PlanOp& mixin, const PlanOp& conv) {
  return is_kind(op, OpKind::kConv) && is_plain(op) && op.taps == 1 && has_no_activation(op) &&
         fits(op.out_channels) && op.in_channels == mixin.out_channels &&
         same(op.a, mixin.output) && op.b.line != mixin.output.line &&
         op.output.line != conv.a.line;
}

}  // namespace

LayerGroup layer_group(const PlanOp* ops, std::size_t op_count, const PlanLine* lines,
                       std::uint32_t output_line, const std::byte* plan, std::size_t first) {
  const LayerGroup none{0, 0, 1};
  const PlanOp& conv = ops[first];
  if (first + 1 >= op_count || !is_conv_of_layer(conv)) return none;
  const PlanOp& mixin = ops[first + 1];
  if (!is_mixin_of(mixin, conv) || has_bias(mixin, plan) || mixin.output.line == conv.a.line)
    return none;
  LayerGroup group{0, 0, 2};
  if (first + group.length < op_count && is_sum_of(ops[first + group.length], mixin)) {
    const PlanOp& sum = ops[first + group.length];
    // The sum must not take the place of what the rest of the layer reads.
    if (sum.output.line != conv.a.line) group.sum = group.length++;
  }
  if (first + group.length < op_count && is_residual_of(ops[first + group.length], mixin, conv)) {
    group.residual = group.length++;
  }
  const std::size_t end = first + group.length;
  const auto dead = [&](std::uint32_t line, std::size_t from) {
    return is_dead(ops, op_count, lines, output_line, line, from);
  };
  // What is left unwritten: z, and a unless it is the first total.
  const bool z_is_a = conv.output.line == mixin.output.line;
  if (!z_is_a && !dead(conv.output.line, first + 2)) return none;
  if (group.sum != 0) {
    const std::uint32_t a = mixin.output.line;
    const bool sum_takes_a = ops[first + group.sum].output.line == a;
    if (sum_takes_a ? group.residual != 0 : !dead(a, end)) return none;
  }
  return group;
}

}  // namespace fxfast
