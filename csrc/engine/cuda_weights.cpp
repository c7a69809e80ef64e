#include "engine/cuda_weights.h"

#include <algorithm>

namespace fxfast {

std::vector<float> panel_weights(const Op& op, int outs) {
  const int panels = (op.out_channels + outs - 1) / outs;
  std::vector<float> packed;
  for (int p = 0; p < panels; ++p) {
    for (int k = 0; k < op.taps; ++k) {
      for (int i = 0; i < op.in_channels; ++i) {
        for (int o = p * outs; o < (p + 1) * outs; ++o) {
          const std::size_t at =
              (static_cast<std::size_t>(o) * static_cast<std::size_t>(op.in_channels) +
               static_cast<std::size_t>(i)) *
                  static_cast<std::size_t>(op.taps) +
              static_cast<std::size_t>(k);
          packed.push_back(o < op.out_channels ? op.weight[at] : 0.0f);
        }
      }
    }
  }
  return packed;
}

std::vector<float> gate_weights(const std::vector<float>& from, int rows, int units) {
  std::vector<float> packed;
  for (int k = 0; k < rows; ++k) {
    for (int u = 0; u < units; ++u) {
      for (int g = 0; g < 4; ++g) {
        packed.push_back(from[static_cast<std::size_t>((k * 4 + g) * units + u)]);
      }
    }
  }
  return packed;
}

std::int64_t layer_floats(const Program& program, const LayerStack& stack, const StackLayer& layer,
                          int times) {
  const Op& conv = program.ops[layer.conv];
  const Op& mixin = program.ops[layer.mixin];
  const std::int64_t channels = stack_kernel_channels(stack.channels, times);
  const std::int64_t rows = std::int64_t{conv.taps} * conv.in_channels + mixin.in_channels + 2 +
                            (layer.residual != 0 ? channels + 1 : 0);
  return (rows * channels + 3) / 4 * 4;
}

std::int64_t weight_place(const Program& program, const LayerStack& stack, int times) {
  std::int64_t most = 0;
  for (const StackLayer& layer : stack.layers)
    most = std::max(most, layer_floats(program, stack, layer, times));
  return most;
}

std::vector<float> layer_weights(const Program& program, const LayerStack& stack,
                                 const StackLayer& layer, int times) {
  const Op& conv = program.ops[layer.conv];
  const Op& mixin = program.ops[layer.mixin];
  const int channels = stack_kernel_channels(stack.channels, times);
  std::vector<float> packed = panel_weights(conv, channels);
  const auto add = [&](const std::vector<float>& values) {
    packed.insert(packed.end(), values.begin(), values.end());
  };
  const auto row = [&](auto value_of) {
    for (int c = 0; c < channels; ++c) packed.push_back(c < stack.channels ? value_of(c) : 0.0f);
  };
  const auto bias_of = [](const Op& op, int c) {
    return op.bias.empty() ? 0.0f : op.bias[static_cast<std::size_t>(c)];
  };
  add(panel_weights(mixin, channels));
  row([&](int c) { return bias_of(conv, c) + bias_of(mixin, c); });
  if (layer.residual != 0) {
    const Op& residual = program.ops[layer.residual];
    add(panel_weights(residual, channels));
    packed.resize(packed.size() + static_cast<std::size_t>((channels - stack.channels) * channels),
                  0.0f);
    row([&](int c) { return bias_of(residual, c); });
  }
  row([&](int c) {
    if (mixin.activation == Activation::kPrelu) return mixin.params[static_cast<std::size_t>(c)];
    return mixin.activation == Activation::kNone ? 1.0f : 0.0f;
  });
  packed.resize(static_cast<std::size_t>(layer_floats(program, stack, layer, times)), 0.0f);
  return packed;
}

}  // namespace fxfast
