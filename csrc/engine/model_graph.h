// The neutral model description inside the engine: what a plan is packed from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

namespace fxfast {

struct ConvLayer {
  int out_channels = 0;
  int in_channels = 0;
  int taps = 0;
  int dilation = 1;
  Activation activation = Activation::kNone;
  std::vector<float> weight;  // [out][in][tap], tap 0 is the oldest sample
  std::vector<float> bias;    // [out], or empty
  std::vector<float> slopes;  // for kPrelu: one value or [out]; else empty

  std::int64_t history_samples() const { return std::int64_t{taps - 1} * dilation; }
};

// One channel in, one channel out; with `skip` the input is added to the output.
struct ModelGraph {
  std::vector<ConvLayer> layers;
  bool skip = false;

  std::int64_t receptive_field() const;
  std::int64_t multiply_adds_per_sample() const;
};

// The limits that keep every later product and allocation inside 64 bits and the memory.
constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxChannels = 4096;
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 26;
constexpr std::int64_t kMaxReceptiveField = std::int64_t{1} << 24;

// Throws ModelError that names the field, what was expected and what came.
void validate(const ModelGraph& graph);

}  // namespace fxfast
