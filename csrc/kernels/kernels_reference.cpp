// The reference: plain loops, sums in double, functions from the C library. It is the truth
// that the fused kernels are tested against, and it runs wherever they do.
#include <algorithm>
#include <cmath>

#include "kernels/delay_reference.h"
#include "kernels/gain_reference.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_reference.h"
#include "kernels/reference_spectrum.h"

namespace fxfast {
namespace {

double fasttanh(double x) {
  const double ax = std::abs(x), x2 = x * x;
  const double over = x * (2.45550750702956 + 2.45550750702956 * ax +
                           (0.893229853513558 + 0.821226666969744 * ax) * x2);
  const double under =
      2.44506634652299 + (2.44506634652299 + x2) * std::abs(x + 0.814642734961073 * x * ax);
  return over / under;
}

// `params` are those of the channel (kPrelu) or of the layer.
double activated(Activation activation, double x, const float* params) {
  const auto param = [&](int i) { return static_cast<double>(params[i]); };
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x > 0.0 ? x : 0.0;
    case Activation::kPrelu: return x > 0.0 ? x : x * param(0);
    case Activation::kTanh: return std::tanh(x);
    case Activation::kSigmoid: return 1.0 / (1.0 + std::exp(-x));
    case Activation::kHardtanh: return std::clamp(x, -1.0, 1.0);
    case Activation::kFasttanh: return fasttanh(x);
    case Activation::kSilu: return x / (1.0 + std::exp(-x));
    case Activation::kHardswish: return x * std::clamp(x + 3.0, 0.0, 6.0) / 6.0;
    case Activation::kLeakyHardtanh:
      if (x < param(0)) return (x - param(0)) * param(2) + param(0);
      return x > param(1) ? (x - param(1)) * param(3) + param(1) : x;
    case Activation::kSoftsign: return x / (1.0 + std::abs(x));
  }
  return x;
}

const float* channel_params(Activation activation, const float* params, int channel) {
  return activation == Activation::kPrelu ? params + channel : params;
}

void activate(const ActivateTask& task) noexcept {
  for (int m = 0; m < task.channels; ++m) {
    const float* params = channel_params(task.activation, task.params, m);
    for (int t = 0; t < task.samples; ++t) {
      const auto x = static_cast<double>(task.input[m * task.input_stride + t]);
      task.output[m * task.output_stride + t] =
          static_cast<float>(activated(task.activation, x, params));
    }
  }
}

void combine(const CombineTask& task) noexcept {
  for (int m = 0; m < task.channels; ++m) {
    for (int t = 0; t < task.samples; ++t) {
      const auto a = static_cast<double>(task.a[m * task.a_stride + t]);
      const auto b = static_cast<double>(task.b[m * task.b_stride + t]);
      const bool has_c = reads_c(task.combine);
      const double c = has_c ? static_cast<double>(task.c[m * task.c_stride + t]) : 0.0;
      double y = a + b;
      if (task.combine == Combine::kMultiply) y = a * b;
      if (task.combine == Combine::kScaleShift) y = a * b + c;
      if (task.combine == Combine::kBlend) y = a * b + c * (1.0 - b);
      task.output[m * task.output_stride + t] = static_cast<float>(y);
    }
  }
}

// Where the packed weight of channel o of `outs` and tap k of `taps` stands (kernel_table.h).
std::ptrdiff_t place_in_panels(int outs, int ins, int taps, int o, int i, int k) {
  const int most = panel_channels(outs), first = o / most * most;
  const int panel = std::min(outs - first, most);
  const std::ptrdiff_t before = static_cast<std::ptrdiff_t>(first) * ins * taps;
  return before + (static_cast<std::ptrdiff_t>(k) * ins + i) * panel + (o - first);
}

float weight_at(const ConvTask& task, int o, int i, int k) {
  if (taps_as_channels(task.out_channels, task.in_channels, task.taps)) {
    return task.weights[place_in_panels(task.taps, task.in_channels, 1, k, i, 0)];
  }
  return task.weights[place_in_panels(task.out_channels, task.in_channels, task.taps, o, i, k)];
}

void conv(const ConvTask& task) noexcept {
  for (int o = 0; o < task.out_channels; ++o) {
    for (int t = 0; t < task.samples; ++t) {
      double sum = static_cast<double>(task.bias[o]);
      if (task.add != nullptr) sum += static_cast<double>(task.add[o * task.add_stride + t]);
      for (int k = 0; k < task.taps; ++k) {
        for (int i = 0; i < task.in_channels; ++i) {
          const std::ptrdiff_t at =
              i * task.input_stride + t + static_cast<std::ptrdiff_t>(k) * task.dilation;
          sum +=
              static_cast<double>(weight_at(task, o, i, k)) * static_cast<double>(task.input[at]);
        }
      }
      task.output[o * task.output_stride + t] = static_cast<float>(
          activated(task.activation, sum, channel_params(task.activation, task.params, o)));
    }
  }
}

// One gate of one unit before its function, in double; of an LSTM in the domain of exp2.
double gate_sum(const RecurrentTask& task, const RecurrentStream& stream, int t, int gate,
                int unit) {
  const int lanes = recurrent_lanes(task.units), first = unit / kUnitBlock * kUnitBlock;
  const int width = std::min(kUnitBlock, lanes - first);
  const int column = gate * width + unit - first;
  const float* w = task.weights + std::ptrdiff_t{4} * first * (task.in_channels + lanes) + column;
  auto sum = static_cast<double>(task.bias[4 * first + column]);
  for (int i = 0; i < task.in_channels; ++i, w += 4 * width) {
    sum += static_cast<double>(*w) * static_cast<double>(stream.input[i * task.input_stride + t]);
  }
  for (int j = 0; j < task.units; ++j, w += 4 * width) {
    sum += static_cast<double>(*w) * static_cast<double>(stream.state[j]);
  }
  return sum;
}

void recurrent_layer(const RecurrentTask& task, const RecurrentStream& stream) noexcept {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  float* c = stream.state + block;
  float* next = stream.state + 2 * block;
  constexpr double kTanhScale = 2.885390081777926815;                        // 2 / ln2
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp2(x)); };  // of -x
  const auto tanh = [](double x) { return std::tanh(x / kTanhScale); };
  for (int t = 0; t < task.samples; ++t) {
    for (int u = 0; u < task.units; ++u) {
      double g[4];
      for (int gate = 0; gate < 4; ++gate) g[gate] = gate_sum(task, stream, t, gate, u);
      if (task.cell == Cell::kLstm) {
        const double cell =
            sigmoid(g[2]) * static_cast<double>(c[u]) + sigmoid(g[0]) * tanh(g[1]) * kTanhScale;
        c[u] = static_cast<float>(cell);
        next[u] = static_cast<float>(sigmoid(g[3]) * tanh(cell));
      } else {
        const double z = 1.0 / (1.0 + std::exp(-g[1])), r = 1.0 / (1.0 + std::exp(-g[0]));
        const double n = std::tanh(g[2] + r * g[3]);
        next[u] = static_cast<float>((1.0 - z) * n + z * static_cast<double>(stream.state[u]));
      }
    }
    for (int u = 0; u < task.units; ++u) {
      stream.state[u] = next[u];
      stream.output[u * task.output_stride + t] = next[u];
    }
  }
}

void recurrent(const RecurrentTask* layers, int count, const RecurrentStream* streams,
               int stream_count) noexcept {
  for (int l = 0; l < count; ++l) {
    for (int s = 0; s < stream_count; ++s) {
      recurrent_layer(layers[l], streams[l * stream_count + s]);
    }
  }
}

void weight_grad(const WeightGradTask& task) noexcept {
  for (int o = 0; o < task.out_channels; ++o) {
    double* grad = task.grad + o * task.grad_stride;
    const float* g = task.grad_output + o * task.grad_output_stride;
    for (int i = 0; i < task.in_channels; ++i) {
      const float* x = task.input + i * task.input_stride;
      for (int k = 0; k < task.taps; ++k, x += task.dilation) {
        double sum = 0.0;
        for (int s = 0; s < task.segments; ++s) {
          const float* g_segment = g + s * task.grad_output_segment;
          const float* x_segment = x + s * task.input_segment;
          for (int t = 0; t < task.samples; ++t) {
            sum += static_cast<double>(g_segment[t]) * static_cast<double>(x_segment[t]);
          }
        }
        *grad++ += sum;
      }
    }
  }
}

double multiply_add_burst(std::int64_t rounds) noexcept {
  volatile double sum = 0.0;
  for (std::int64_t r = 0; r < rounds; ++r) sum = sum * 0.999 + 1e-3;
  return 2.0 * static_cast<double>(rounds);
}

}  // namespace

const KernelTable& reference_kernels() {
  static constexpr KernelTable table = {"reference",
                                        Requires::kNone,
                                        1,
                                        conv,
                                        activate,
                                        combine,
                                        recurrent,
                                        weight_grad,
                                        multiply_add_burst,
                                        reference::fir,
                                        reference::spectrum_sum,
                                        reference::spectrum_block,
                                        reference::spectrum_filter,
                                        reference_to_lanes,
                                        reference_from_lanes,
                                        reference_carry_lanes,
                                        reference_spectral,
                                        nullptr,
                                        reference_delay,
                                        reference_level_gain};
  return table;
}

}  // namespace fxfast
