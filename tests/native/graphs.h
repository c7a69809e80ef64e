// Deterministic random graphs and signals for the native tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/model_graph.h"

namespace testing {

// Uniform in [-1, 1), the same everywhere.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  float next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<float>(static_cast<double>(state_ >> 40) / (1 << 23) - 1.0);
  }
  std::vector<float> take(std::size_t count, float scale = 1.0f) {
    std::vector<float> values(count);
    for (float& value : values) value = next() * scale;
    return values;
  }

 private:
  std::uint64_t state_;
};

inline fxfast::ConvLayer conv(Noise& noise, int in, int out, int taps, int dilation,
                              fxfast::Activation activation) {
  fxfast::ConvLayer layer;
  layer.in_channels = in;
  layer.out_channels = out;
  layer.taps = taps;
  layer.dilation = dilation;
  layer.activation = activation;
  const auto outs = static_cast<std::size_t>(out);
  const auto terms = static_cast<std::size_t>(in) * static_cast<std::size_t>(taps);
  layer.weight = noise.take(outs * terms, 1.7f / std::sqrt(static_cast<float>(terms)));
  layer.bias = noise.take(outs, 0.2f);
  if (activation == fxfast::Activation::kPrelu) layer.slopes = noise.take(outs, 0.3f);
  return layer;
}

// 1 -> 11 -> 8 -> 1 channels with every activation and a dilation; receptive field 42.
inline fxfast::ModelGraph small_graph(bool skip = false) {
  using fxfast::Activation;
  Noise noise(7);
  fxfast::ModelGraph graph;
  graph.skip = skip;
  graph.layers.push_back(conv(noise, 1, 11, 5, 1, Activation::kPrelu));
  graph.layers.push_back(conv(noise, 11, 8, 3, 7, Activation::kTanh));
  graph.layers.push_back(conv(noise, 8, 9, 2, 13, Activation::kRelu));
  graph.layers.push_back(conv(noise, 9, 4, 1, 1, Activation::kSigmoid));
  graph.layers.push_back(conv(noise, 4, 1, 11, 1, Activation::kNone));
  return graph;
}

}  // namespace testing
