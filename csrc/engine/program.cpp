#include "engine/program.h"

#include <cmath>
#include <string>

#include "base/check.h"
#include "engine/delay.h"
#include "engine/filter.h"
#include "engine/level_gain.h"

namespace fxfast {
namespace {

void require(bool ok, const std::string& name, const std::string& expected, std::int64_t got) {
  if (!ok) {
    throw ModelError(name + ": expected " + expected + ", got " + std::to_string(got));
  }
}

void require_finite(const std::vector<float>& values, const std::string& name) {
  for (float value : values) {
    if (!std::isfinite(value)) {
      throw ModelError(name + ": expected finite values, got NaN or infinity");
    }
  }
}

void require_range(std::int64_t value, std::int64_t limit, const std::string& name) {
  require(value >= 1 && value <= limit, name, "1 to " + std::to_string(limit), value);
}

void require_size(const std::vector<float>& values, std::int64_t expected,
                  const std::string& name) {
  require(static_cast<std::int64_t>(values.size()) == expected, name,
          std::to_string(expected) + " values", static_cast<std::int64_t>(values.size()));
}

void validate_conv(const Op& op, const std::string& name) {
  require_range(op.in_channels, kMaxChannels, name + ".in_channels");
  require_range(op.taps, kMaxReceptiveField, name + ".taps");
  require_range(op.dilation, kMaxReceptiveField, name + ".dilation");
  require(op.history_samples() < kMaxReceptiveField, name + ".dilation",
          "a history below " + std::to_string(kMaxReceptiveField) + " samples",
          op.history_samples());
  const std::int64_t per_tap = std::int64_t{op.out_channels} * op.in_channels;
  require(op.taps <= kMaxParameters / per_tap, name + ".weight",
          "at most " + std::to_string(kMaxParameters) + " values with taps", op.taps);
  require_size(op.weight, per_tap * op.taps, name + ".weight");
  if (!op.bias.empty()) require_size(op.bias, op.out_channels, name + ".bias");
  require_finite(op.weight, name + ".weight");
  require_finite(op.bias, name + ".bias");
}

void validate_recurrent(const Op& op, const std::string& name) {
  require(static_cast<std::uint32_t>(op.cell) < kCellCount, name + ".cell", "a known cell",
          static_cast<std::int64_t>(op.cell));
  require_range(op.in_channels, kMaxChannels, name + ".in_channels");
  require(op.activation == Activation::kNone, name + ".activation", "none",
          static_cast<std::int64_t>(op.activation));
  const std::int64_t units = op.out_channels;
  require_size(op.weight, (op.in_channels + units) * 4 * units, name + ".weight");
  require_size(op.bias, 4 * units, name + ".bias");
  require_finite(op.weight, name + ".weight");
  require_finite(op.bias, name + ".bias");
}

void validate_filter(const Op& op, const std::string& name) {
  require(op.in_channels == 1, name + ".in_channels", "1", op.in_channels);
  require(op.out_channels == 1, name + ".out_channels", "1", op.out_channels);
  require(op.dilation == 1, name + ".dilation", "1", op.dilation);
  require(op.activation == Activation::kNone, name + ".activation", "none",
          static_cast<std::int64_t>(op.activation));
  require_range(op.taps, kMaxReceptiveField, name + ".taps");
  require_size(op.weight, op.taps, name + ".weight");
  if (!op.bias.empty()) require_size(op.bias, 1, name + ".bias");
  require_finite(op.weight, name + ".weight");
  require_finite(op.bias, name + ".bias");
}

void validate_delay(const Op& op, const std::string& name) {
  require(op.out_channels == 1, name + ".out_channels", "1", op.out_channels);
  require(op.activation == Activation::kNone, name + ".activation", "none",
          static_cast<std::int64_t>(op.activation));
  require_range(static_cast<std::int64_t>(op.params.size()), kMaxDelayNumbers, name + ".params");
  check_delay(op.params.data(), op.params.size(), name + ".params");
}

void validate_op(const Op& op, const std::string& name) {
  require(static_cast<std::uint32_t>(op.kind) < kOpKindCount && !is_layout(op.kind), name + ".kind",
          "a known operation", static_cast<std::int64_t>(op.kind));
  require_range(op.out_channels, kMaxChannels, name + ".out_channels");
  require(static_cast<std::uint32_t>(op.activation) < kActivationCount, name + ".activation",
          "a known activation", static_cast<std::int64_t>(op.activation));
  require(static_cast<std::uint32_t>(op.combine) < kCombineCount, name + ".combine",
          "a known combination", static_cast<std::int64_t>(op.combine));
  if (op.kind == OpKind::kConv) validate_conv(op, name);
  if (op.kind == OpKind::kRecurrent) validate_recurrent(op, name);
  if (op.kind == OpKind::kFilter) validate_filter(op, name);
  if (op.kind == OpKind::kDelay) return validate_delay(op, name);
  require_finite(op.params, name + ".params");
  if (op.kind == OpKind::kLevelGain) return validate_level_gain(op, name);
  require_size(op.params,
               op.kind == OpKind::kRecurrent ? 2 * op.out_channels
                                             : activation_params(op.activation, op.out_channels),
               name + ".params");
}

}  // namespace

void validate(const Program& program) {
  require_range(static_cast<std::int64_t>(program.line_channels.size()), kMaxLines, "lines");
  require_range(static_cast<std::int64_t>(program.ops.size()), kMaxOps, "ops");
  for (std::size_t i = 0; i < program.line_channels.size(); ++i) {
    require_range(program.line_channels[i], kMaxChannels, "lines[" + std::to_string(i) + "]");
  }
  std::int64_t parameters = 0;
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    validate_op(op, "ops[" + std::to_string(i) + "]");
    parameters += static_cast<std::int64_t>(op.weight.size() + op.bias.size());
    require(parameters <= kMaxParameters, "parameters", "at most " + std::to_string(kMaxParameters),
            parameters);
  }
}

}  // namespace fxfast
