#include "engine/level_gain.h"

#include <cmath>

#include "base/check.h"

namespace fxfast {
namespace {

// Beyond these no sound has a level, and exp2 of the gain leaves what float can hold.
constexpr double kMaxLog2 = 100.0;
constexpr double kMaxHoldSamples = 1 << 24;

void require_within(double value, double low, double high, const std::string& name) {
  if (value >= low && value <= high) return;
  throw ModelError(name + ": expected " + std::to_string(low) + " to " + std::to_string(high) +
                   ", got " + std::to_string(value));
}

}  // namespace

void validate_level_gain(const Op& op, const std::string& name) {
  if (op.out_channels != 1) {
    throw ModelError(name + ".out_channels: expected 1, got " + std::to_string(op.out_channels));
  }
  require_within(op.in_channels, kMinCurvePoints, kMaxCurvePoints, name + ".points");
  const auto count = static_cast<std::size_t>(gain_params(op.in_channels));
  if (op.params.size() != count) {
    throw ModelError(name + ".params: expected " + std::to_string(count) + " values, got " +
                     std::to_string(op.params.size()));
  }
  const auto number = [&](GainNumber which) { return static_cast<double>(op.params[which]); };
  const auto require_number = [&](GainNumber which, double low, double high, const char* what) {
    require_within(number(which), low, high, name + "." + what);
  };
  require_number(kGainKindNumber, 0.0, 1.0, "kind");
  require_number(kGainDetectorRise, 0.0, 1.0, "detector_rise");
  require_number(kGainDetectorFall, 0.0, 1.0, "detector_fall");
  require_number(kGainRise, 0.0, 1.0, "gain_rise");
  require_number(kGainFall, 0.0, 1.0, "gain_fall");
  require_number(kGainHold, 0.0, kMaxHoldSamples, "hold");
  require_number(kGainOpen, 0.0, 1e12, "open");
  require_number(kGainClose, 0.0, number(kGainOpen), "close");
  require_number(kGainRange, 0.0, 1.0, "range");
  require_number(kGainFirstLevel, -kMaxLog2, kMaxLog2, "first_level");
  require_number(kGainPerLevel, 1e-6, kMaxCurvePoints, "points_per_level");
  require_number(kGainAverage, 0.0, 1.0, "detector_average");
  for (std::size_t i = kGainNumbers; i < count; ++i) {
    require_within(static_cast<double>(op.params[i]), -kMaxLog2, kMaxLog2, name + ".curve");
  }
}

GainState initial_gain_state(const float* numbers) {
  const bool is_gate = numbers[kGainKindNumber] > 0.0f;
  return {0.0, 0.0, is_gate ? 0.0 : static_cast<double>(numbers[kGainNumbers]), 0, kGateClosing};
}

}  // namespace fxfast
