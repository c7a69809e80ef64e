#include "engine/model_graph.h"

#include <cmath>
#include <string>

#include "base/check.h"

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

std::string from_one_to(std::int64_t limit) { return "1 to " + std::to_string(limit); }

void validate_layer(const ConvLayer& layer, const std::string& name, int in_channels) {
  require(layer.in_channels == in_channels, name + ".in_channels", std::to_string(in_channels),
          layer.in_channels);
  require(layer.out_channels >= 1 && layer.out_channels <= kMaxChannels, name + ".out_channels",
          from_one_to(kMaxChannels), layer.out_channels);
  require(layer.taps >= 1 && layer.taps <= kMaxReceptiveField, name + ".taps",
          from_one_to(kMaxReceptiveField), layer.taps);
  require(layer.dilation >= 1 && layer.dilation <= kMaxReceptiveField, name + ".dilation",
          from_one_to(kMaxReceptiveField), layer.dilation);
  const std::int64_t per_tap = std::int64_t{layer.out_channels} * layer.in_channels;
  require(layer.taps <= kMaxParameters / per_tap, name + ".weight",
          "at most " + std::to_string(kMaxParameters) + " values with taps", layer.taps);
  require(static_cast<std::int64_t>(layer.weight.size()) == per_tap * layer.taps, name + ".weight",
          std::to_string(per_tap * layer.taps) + " values",
          static_cast<std::int64_t>(layer.weight.size()));
  const auto outs = static_cast<std::size_t>(layer.out_channels);
  require(layer.bias.empty() || layer.bias.size() == outs, name + ".bias",
          std::to_string(outs) + " values", static_cast<std::int64_t>(layer.bias.size()));
  require(static_cast<std::uint32_t>(layer.activation) < kActivationCount, name + ".activation",
          "a known activation", static_cast<std::int64_t>(layer.activation));
  const bool slopes_fit = layer.activation == Activation::kPrelu
                              ? layer.slopes.size() == 1 || layer.slopes.size() == outs
                              : layer.slopes.empty();
  require(
      slopes_fit, name + ".slopes",
      layer.activation == Activation::kPrelu ? "1 or " + std::to_string(outs) + " values" : "none",
      static_cast<std::int64_t>(layer.slopes.size()));
  require_finite(layer.weight, name + ".weight");
  require_finite(layer.bias, name + ".bias");
  require_finite(layer.slopes, name + ".slopes");
}

}  // namespace

std::int64_t ModelGraph::receptive_field() const {
  std::int64_t samples = 1;
  for (const ConvLayer& layer : layers) samples += layer.history_samples();
  return samples;
}

std::int64_t ModelGraph::multiply_adds_per_sample() const {
  std::int64_t total = 0;
  for (const ConvLayer& layer : layers) total += static_cast<std::int64_t>(layer.weight.size());
  return total;
}

void validate(const ModelGraph& graph) {
  const auto count = static_cast<std::int64_t>(graph.layers.size());
  require(count >= 1 && count <= kMaxLayers, "layers", from_one_to(kMaxLayers), count);
  int channels = 1;
  std::int64_t parameters = 0;
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    const ConvLayer& layer = graph.layers[i];
    validate_layer(layer, "layers[" + std::to_string(i) + "]", channels);
    channels = layer.out_channels;
    parameters += static_cast<std::int64_t>(layer.weight.size() + layer.bias.size());
    require(parameters <= kMaxParameters, "parameters", "at most " + std::to_string(kMaxParameters),
            parameters);
  }
  require(channels == 1, "last layer's out_channels", "1", channels);
  require(graph.receptive_field() <= kMaxReceptiveField, "receptive field",
          "at most " + std::to_string(kMaxReceptiveField) + " samples", graph.receptive_field());
}

}  // namespace fxfast
