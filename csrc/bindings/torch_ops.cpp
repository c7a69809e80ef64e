// torch.ops.fxfast.*: the engine for tensors, also without Python (see fxfast/ops.py for the
// shapes, the meta kernels and the gradients). Only torch's stable ABI; every argument is checked
// here, for a scripted model calls these ops directly.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

#include "base/check.h"
#include "base/finite.h"
#include "engine/batch_conv.h"
#include "engine/run_block.h"
#include "kernels/choose_isa.h"

namespace fxfast {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Less work than this is not worth waking a thread for.
constexpr std::int64_t kMinMultiplyAddsPerThread = std::int64_t{1} << 20;

std::string shape_text(const Tensor& tensor) {
  std::string text = "(";
  for (const std::int64_t size : tensor.sizes()) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + ")";
}

std::string dtype_text(ScalarType dtype) {
  if (dtype == ScalarType::Byte) return "uint8";
  if (dtype == ScalarType::Float) return "float32";
  if (dtype == ScalarType::Double) return "float64";
  return torch::headeronly::toString(dtype);
}

void require(bool ok, const std::string& message) {
  if (!ok) throw InputError(message);
}

void require_tensor(const Tensor& tensor, const char* name, ScalarType dtype, const char* shape,
                    std::int64_t dimensions) {
  require(tensor.is_cpu(), std::string(name) + ": expected a tensor on the CPU, got another");
  require(tensor.scalar_type() == dtype, std::string(name) + ": expected dtype " +
                                             dtype_text(dtype) + ", got " +
                                             dtype_text(tensor.scalar_type()));
  require(tensor.dim() == dimensions,
          std::string(name) + ": expected shape " + shape + ", got " + shape_text(tensor));
}

// Runs work.run(begin, end) over its items on torch's threads.
template <typename Work>
void run_on_threads(const Work& work) {
  const std::int64_t cost = std::max<std::int64_t>(1, work.multiply_adds_per_item());
  const std::int64_t grain = std::max<std::int64_t>(1, kMinMultiplyAddsPerThread / cost);
  torch::stable::parallel_for(0, work.items(), grain,
                              [&](std::int64_t begin, std::int64_t end) { work.run(begin, end); });
}

// --- run: streams through a packed plan ---------------------------------------------------------

struct StreamBatch {
  const PlanView& plan;
  const KernelTable& kernels;
  std::byte* states;
  const float* x;
  float* y;
  std::int64_t streams, samples;
  // Those of the channels of one batch entry are the same: (B, K), or (B, K, T).
  const float* knobs;
  std::int64_t channels;
  bool knobs_turn;

  std::int64_t items() const { return streams; }
  std::int64_t multiply_adds_per_item() const { return plan.multiply_adds_per_sample() * samples; }
  void run(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t s = begin; s < end; ++s) {
      std::byte* state = states + s * static_cast<std::int64_t>(plan.state_bytes());
      run_block(plan, kernels, state, x + s * samples, y + s * samples,
                static_cast<std::size_t>(samples), knobs_of(s / channels));
    }
  }
  KnobRows knobs_of(std::int64_t entry) const {
    if (knobs == nullptr) return {};
    const auto count = static_cast<std::int64_t>(plan.knobs());
    if (!knobs_turn) return {knobs + entry * count, 0};
    return {knobs + entry * count * samples, static_cast<std::size_t>(samples)};
  }
};

bool overlap(const Tensor& a, const Tensor& b) {
  const auto* a_bytes = static_cast<const std::byte*>(a.const_data_ptr());
  const auto* b_bytes = static_cast<const std::byte*>(b.const_data_ptr());
  const std::size_t a_size = static_cast<std::size_t>(a.numel()) * a.element_size();
  const std::size_t b_size = static_cast<std::size_t>(b.numel()) * b.element_size();
  return a_bytes < b_bytes + b_size && b_bytes < a_bytes + a_size;
}

void require_state(const PlanView& plan, const Tensor& state, const Tensor& x) {
  require(state.size(0) == x.size(0) && state.size(1) == x.size(1),
          "state: expected shape (" + std::to_string(x.size(0)) + ", " + std::to_string(x.size(1)) +
              ", state bytes) for x of shape " + shape_text(x) + ", got " + shape_text(state));
  require(state.is_contiguous(), "state: expected a contiguous tensor, got strides");
  const auto* bytes = static_cast<const std::byte*>(state.const_data_ptr());
  require(reinterpret_cast<std::uintptr_t>(bytes) % alignof(StateHeader) == 0,
          "state: expected memory aligned to 8 bytes, got a view at an odd offset");
  const auto size = static_cast<std::size_t>(state.size(2));
  for (std::int64_t s = 0; s < state.size(0) * state.size(1); ++s) {
    check_state(plan, bytes + static_cast<std::size_t>(s) * size, size);
    check_block(plan, bytes + static_cast<std::size_t>(s) * size,
                static_cast<std::size_t>(x.size(2)));
  }
}

// (B, K) for knobs that are held, or (B, K, T) with a value for each sample; finite.
void require_knobs(const PlanView& plan, const Tensor& knobs, std::int64_t batch,
                   std::optional<std::int64_t> samples) {
  require(plan.knobs() > 0, "plan: expected a model with knobs, got one of none");
  require(knobs.is_cpu(), "knobs: expected a tensor on the CPU, got another");
  require(knobs.scalar_type() == ScalarType::Float,
          "knobs: expected dtype float32, got " + dtype_text(knobs.scalar_type()));
  const std::string held = "(" + std::to_string(batch) + ", " + std::to_string(plan.knobs());
  const bool turn = samples && knobs.dim() == 3 && knobs.size(2) == *samples;
  require((knobs.dim() == 2 || turn) && knobs.size(0) == batch &&
              knobs.size(1) == static_cast<std::int64_t>(plan.knobs()),
          "knobs: expected shape " + held + ")" +
              (samples ? " or " + held + ", " + std::to_string(*samples) + ")" : "") + ", got " +
              shape_text(knobs));
  require(first_non_finite(static_cast<const float*>(knobs.const_data_ptr()),
                           static_cast<std::size_t>(knobs.numel())) < 0,
          "knobs: expected finite values, got NaN or infinity");
}

Tensor play(const Tensor& plan_tensor, const Tensor& state, const Tensor& x_any,
            const std::optional<Tensor>& knobs_any) {
  require_tensor(plan_tensor, "plan", ScalarType::Byte, "(plan bytes)", 1);
  require_tensor(state, "state", ScalarType::Byte, "(B, C, state bytes)", 3);
  require_tensor(x_any, "x", ScalarType::Float, "(B, C, T)", 3);
  const Tensor plan_bytes = torch::stable::contiguous(plan_tensor);
  const PlanView plan(static_cast<const std::byte*>(plan_bytes.const_data_ptr()),
                      static_cast<std::size_t>(plan_bytes.numel()));
  require(knobs_any || plan.knobs() == 0,
          "plan: expected a model without knobs, got one of " + std::to_string(plan.knobs()));
  require_state(plan, state, x_any);
  // The plan and x are read while the state is written: bytes in both would change under way.
  require(!overlap(plan_bytes, state), "state: expected memory of its own, got the plan's");
  require(!overlap(x_any, state), "state: expected memory of its own, got that of x");
  const Tensor x = torch::stable::contiguous(x_any);
  const auto* samples = static_cast<const float*>(x.const_data_ptr());
  const std::ptrdiff_t bad = first_non_finite(samples, static_cast<std::size_t>(x.numel()));
  require(bad < 0, "x: expected finite samples, got NaN or infinity at sample " +
                       std::to_string(bad % std::max<std::int64_t>(1, x.size(2))));
  std::optional<Tensor> knobs;
  if (knobs_any) {
    knobs = torch::stable::contiguous(*knobs_any);
    require_knobs(plan, *knobs, x.size(0), x.size(2));
    require(!overlap(*knobs, state), "state: expected memory of its own, got that of knobs");
  }
  Tensor y = torch::stable::new_empty(x, x.sizes());
  run_on_threads(
      StreamBatch{plan, choose_kernels(nullptr), static_cast<std::byte*>(state.mutable_data_ptr()),
                  samples, static_cast<float*>(y.mutable_data_ptr()), x.size(0) * x.size(1),
                  x.size(2), knobs ? static_cast<const float*>(knobs->const_data_ptr()) : nullptr,
                  x.size(1), knobs && knobs->dim() == 3});
  return y;
}

Tensor run(const Tensor& plan, const Tensor& state, const Tensor& x) {
  return play(plan, state, x, std::nullopt);
}

Tensor run_knobs(const Tensor& plan, const Tensor& state, const Tensor& x, const Tensor& knobs) {
  return play(plan, state, x, knobs);
}

// Streams that have heard silence for ever, with the knobs (B, K) of their batch entry.
Tensor settled(const Tensor& plan_tensor, const Tensor& knobs_any, std::int64_t channels) {
  require_tensor(plan_tensor, "plan", ScalarType::Byte, "(plan bytes)", 1);
  require(channels >= 0, "channels: expected at least 0, got " + std::to_string(channels));
  const Tensor plan_bytes = torch::stable::contiguous(plan_tensor);
  const PlanView plan(static_cast<const std::byte*>(plan_bytes.const_data_ptr()),
                      static_cast<std::size_t>(plan_bytes.numel()));
  const Tensor knobs = torch::stable::contiguous(knobs_any);
  const std::int64_t batch = knobs.dim() == 2 ? knobs.size(0) : 0;
  require_knobs(plan, knobs, batch, std::nullopt);
  const auto bytes = static_cast<std::int64_t>(plan.state_bytes());
  Tensor states = torch::stable::new_empty(plan_bytes, {batch, channels, bytes});
  auto* state = static_cast<std::byte*>(states.mutable_data_ptr());
  const auto* values = static_cast<const float*>(knobs.const_data_ptr());
  for (std::int64_t s = 0; s < batch * channels; ++s, state += bytes) {
    const std::int64_t in_entry = s % channels;
    if (in_entry > 0) {
      std::memcpy(state, state - bytes, static_cast<std::size_t>(bytes));
    } else {
      settle(plan, choose_kernels(nullptr), state,
             values + s / channels * static_cast<std::int64_t>(plan.knobs()));
    }
  }
  return states;
}

// --- conv1d and its gradients -------------------------------------------------------------------

// Sizes of (B, I, in T) -> (B, O, out T) by a valid convolution with (O, I, K) weights.
BatchShape valid_shape(std::int64_t batch, std::int64_t in_samples, std::int64_t outs,
                       std::int64_t ins, std::int64_t taps, std::int64_t dilation) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  require(outs >= 1 && ins >= 1 && taps >= 1 && outs <= kMax && ins <= kMax && taps <= kMax,
          "weight: expected at least one channel in and out and one tap, got (" +
              std::to_string(outs) + ", " + std::to_string(ins) + ", " + std::to_string(taps) +
              ")");
  require(dilation >= 1 && dilation <= kMax,
          "dilation: expected at least 1, got " + std::to_string(dilation));
  const std::int64_t history = (taps - 1) * dilation;
  require(in_samples > history && in_samples <= kMax,
          "x: expected at least " + std::to_string(history + 1) + " samples, got " +
              std::to_string(in_samples));
  return {batch,
          in_samples,
          in_samples - history,
          static_cast<int>(ins),
          static_cast<int>(outs),
          static_cast<int>(taps),
          static_cast<int>(dilation)};
}

const float* float_data(const Tensor& tensor) {
  return static_cast<const float*>(tensor.const_data_ptr());
}

Tensor conv1d(const Tensor& x_any, const Tensor& weight_any, const std::optional<Tensor>& bias_any,
              std::int64_t dilation) {
  require_tensor(x_any, "x", ScalarType::Float, "(B, I, T)", 3);
  require_tensor(weight_any, "weight", ScalarType::Float, "(O, I, K)", 3);
  const Tensor x = torch::stable::contiguous(x_any);
  const Tensor weight = torch::stable::contiguous(weight_any);
  require(weight.size(1) == x.size(1), "weight: expected (O, " + std::to_string(x.size(1)) +
                                           ", K) for x of shape " + shape_text(x) + ", got " +
                                           shape_text(weight));
  const BatchShape shape =
      valid_shape(x.size(0), x.size(2), weight.size(0), weight.size(1), weight.size(2), dilation);
  std::optional<Tensor> bias;
  if (bias_any) {
    require_tensor(*bias_any, "bias", ScalarType::Float, "(O)", 1);
    require(bias_any->size(0) == shape.out_channels, "bias: expected shape (" +
                                                         std::to_string(shape.out_channels) +
                                                         "), got " + shape_text(*bias_any));
    bias = torch::stable::contiguous(*bias_any);
  }
  Tensor y = torch::stable::new_empty(x, {shape.batch, shape.out_channels, shape.out_samples});
  const std::ptrdiff_t taps = shape.taps;
  const WeightView view = {float_data(weight),
                           shape.out_channels,
                           shape.in_channels,
                           shape.taps,
                           shape.in_channels * taps,
                           taps,
                           1};
  run_on_threads(BatchConv(shape, choose_kernels(nullptr), view, bias ? float_data(*bias) : nullptr,
                           float_data(x), 0, static_cast<float*>(y.mutable_data_ptr())));
  return y;
}

// The gradient for x is a convolution of grad_y, with silence around it, by the weights
// transposed and reversed in time.
Tensor conv1d_input_grad(const Tensor& grad_any, const Tensor& weight_any, std::int64_t dilation) {
  require_tensor(grad_any, "grad_y", ScalarType::Float, "(B, O, T)", 3);
  require_tensor(weight_any, "weight", ScalarType::Float, "(O, I, K)", 3);
  const Tensor grad = torch::stable::contiguous(grad_any);
  const Tensor weight = torch::stable::contiguous(weight_any);
  require(weight.size(0) == grad.size(1), "weight: expected (" + std::to_string(grad.size(1)) +
                                              ", I, K) for grad_y of shape " + shape_text(grad) +
                                              ", got " + shape_text(weight));
  require(grad.size(2) >= 1, "grad_y: expected at least 1 sample, got " + shape_text(grad));
  require(dilation >= 1 && dilation <= std::numeric_limits<int>::max() && weight.size(2) >= 1 &&
              weight.size(2) <= std::numeric_limits<int>::max(),
          "dilation and taps: expected at least 1, got " + std::to_string(dilation) + " and " +
              std::to_string(weight.size(2)));
  const std::int64_t history = (weight.size(2) - 1) * dilation;
  BatchShape shape = valid_shape(grad.size(0), grad.size(2) + 2 * history, weight.size(1),
                                 weight.size(0), weight.size(2), dilation);
  shape.in_samples = grad.size(2);
  Tensor grad_x =
      torch::stable::new_empty(grad, {shape.batch, shape.out_channels, shape.out_samples});
  const std::ptrdiff_t taps = shape.taps;
  const WeightView view = {float_data(weight) + taps - 1,
                           shape.out_channels,
                           shape.in_channels,
                           shape.taps,
                           taps,
                           shape.out_channels * taps,
                           -1};
  run_on_threads(BatchConv(shape, choose_kernels(nullptr), view, nullptr, float_data(grad), history,
                           static_cast<float*>(grad_x.mutable_data_ptr())));
  return grad_x;
}

Tensor conv1d_weight_grad(const Tensor& x_any, const Tensor& grad_any, std::int64_t taps,
                          std::int64_t dilation) {
  require_tensor(x_any, "x", ScalarType::Float, "(B, I, T)", 3);
  require_tensor(grad_any, "grad_y", ScalarType::Float, "(B, O, T)", 3);
  const Tensor x = torch::stable::contiguous(x_any);
  const Tensor grad = torch::stable::contiguous(grad_any);
  const BatchShape shape =
      valid_shape(x.size(0), x.size(2), grad.size(1), x.size(1), taps, dilation);
  require(grad.size(0) == shape.batch && grad.size(2) == shape.out_samples,
          "grad_y: expected shape (" + std::to_string(shape.batch) + ", O, " +
              std::to_string(shape.out_samples) + ") for x of shape " + shape_text(x) + ", got " +
              shape_text(grad));
  Tensor grad_w = torch::stable::new_empty(x, {grad.size(1), x.size(1), taps});
  run_on_threads(BatchWeightGrad(shape, choose_kernels(nullptr), float_data(x), float_data(grad),
                                 static_cast<float*>(grad_w.mutable_data_ptr())));
  return grad_w;
}

}  // namespace
}  // namespace fxfast

STABLE_TORCH_LIBRARY(fxfast, library) {
  library.def("run(Tensor plan, Tensor(a!) state, Tensor x) -> Tensor");
  library.def("run_knobs(Tensor plan, Tensor(a!) state, Tensor x, Tensor knobs) -> Tensor");
  library.def("settled(Tensor plan, Tensor knobs, int channels) -> Tensor");
  library.def("conv1d(Tensor x, Tensor weight, Tensor? bias, int dilation) -> Tensor");
  library.def("conv1d_input_grad(Tensor grad_y, Tensor weight, int dilation) -> Tensor");
  library.def("conv1d_weight_grad(Tensor x, Tensor grad_y, int taps, int dilation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fxfast, CPU, library) {
  library.impl("run", TORCH_BOX(&fxfast::run));
  library.impl("run_knobs", TORCH_BOX(&fxfast::run_knobs));
  library.impl("settled", TORCH_BOX(&fxfast::settled));
  library.impl("conv1d", TORCH_BOX(&fxfast::conv1d));
  library.impl("conv1d_input_grad", TORCH_BOX(&fxfast::conv1d_input_grad));
  library.impl("conv1d_weight_grad", TORCH_BOX(&fxfast::conv1d_weight_grad));
}
