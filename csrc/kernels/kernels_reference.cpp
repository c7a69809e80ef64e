// The reference: plain loops, sums in double, functions from the C library. It is the truth
// that the fused kernels are tested against, and it runs wherever they do.
#include <cmath>

#include "kernels/kernel_table.h"

namespace fxfast {
namespace {

double activate(Activation activation, double x, const float* slope) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x > 0.0 ? x : 0.0;
    case Activation::kPrelu: return x > 0.0 ? x : x * static_cast<double>(*slope);
    case Activation::kTanh: return std::tanh(x);
    case Activation::kSigmoid: return 1.0 / (1.0 + std::exp(-x));
  }
  return x;
}

// Where the packed weight of channel o of `outs` and tap k of `taps` stands (kernel_table.h).
std::ptrdiff_t place_in_panels(int outs, int ins, int taps, int o, int i, int k) {
  const int first = o / kPanelChannels * kPanelChannels;
  const int panel = outs - first < kPanelChannels ? outs - first : kPanelChannels;
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
      for (int k = 0; k < task.taps; ++k) {
        for (int i = 0; i < task.in_channels; ++i) {
          const std::ptrdiff_t at =
              i * task.input_stride + t + static_cast<std::ptrdiff_t>(k) * task.dilation;
          sum +=
              static_cast<double>(weight_at(task, o, i, k)) * static_cast<double>(task.input[at]);
        }
      }
      const float* slope = task.activation == Activation::kPrelu ? task.slopes + o : nullptr;
      task.output[o * task.output_stride + t] =
          static_cast<float>(activate(task.activation, sum, slope));
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
  static constexpr KernelTable table = {"reference", Requires::kNone, 1,
                                        conv,        weight_grad,     multiply_add_burst};
  return table;
}

}  // namespace fxfast
