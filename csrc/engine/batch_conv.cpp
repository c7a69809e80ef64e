#include "engine/batch_conv.h"

#include <algorithm>
#include <cstring>

namespace fxfast {
namespace {

// Whole time tiles of every kernel; the input of a block stays in the second-level cache.
constexpr std::int64_t kBlockSamples = 192;
constexpr std::int64_t kMaxBlockSamples = 192 << 12;

// The weight gradient's chunk of channels and stretch of time: its rows stay in the
// second-level cache, and float32 sums over one stretch stay short.
constexpr int kGradOutputs = 16;
constexpr int kGradInputs = 8;
constexpr std::int64_t kGradSamples = 1024;

// An odd number of cache lines, so that rows spread over all cache sets.
std::ptrdiff_t scratch_row_floats(std::int64_t samples) {
  constexpr std::size_t kLine = kCacheLineBytes / sizeof(float);
  const std::size_t floats = static_cast<std::size_t>(samples) + kMaxVectorFloats;
  return static_cast<std::ptrdiff_t>((round_up(floats, kLine) / kLine | 1u) * kLine);
}

AlignedBuffer float_buffer(std::int64_t count) {
  return AlignedBuffer(static_cast<std::size_t>(count) * sizeof(float));
}

float* floats(AlignedBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }
const float* floats(const AlignedBuffer& buffer) {
  return reinterpret_cast<const float*>(buffer.data());
}

// Rows of `samples` values with `zeros` zeros after each.
AlignedBuffer with_zeros(const float* rows, std::int64_t count, std::int64_t samples,
                         std::int64_t zeros) {
  AlignedBuffer padded = float_buffer(count * (samples + zeros));
  float* out = floats(padded);
  for (std::int64_t r = 0; r < count; ++r, rows += samples, out += samples + zeros) {
    std::copy_n(rows, samples, out);
  }
  return padded;
}

}  // namespace

BatchConv::BatchConv(const BatchShape& shape, const KernelTable& kernels, const WeightView& weights,
                     const float* bias, const float* x, std::int64_t zeros_before, float* y)
    : shape_(shape),
      kernels_(kernels),
      weights_(float_buffer(std::int64_t{shape.out_channels} * shape.in_channels * shape.taps)),
      bias_(float_buffer(shape.out_channels)),
      x_(x),
      zeros_before_(zeros_before),
      y_(y) {
  pack_weights(weights, floats(weights_));
  if (bias != nullptr) std::copy_n(bias, shape.out_channels, floats(bias_));
  // A block's history is copied with it: a block as long as its history wastes half at most.
  const std::int64_t wanted = std::clamp(shape.history_samples(), kBlockSamples, kMaxBlockSamples);
  block_samples_ = (wanted + kBlockSamples - 1) / kBlockSamples * kBlockSamples;
  blocks_ = (shape.out_samples + block_samples_ - 1) / block_samples_;
  row_floats_ = scratch_row_floats(block_samples_ + shape.history_samples());
}

std::int64_t BatchConv::multiply_adds_per_item() const {
  return std::int64_t{shape_.out_channels} * shape_.in_channels * shape_.taps *
         std::min(block_samples_, shape_.out_samples);
}

void BatchConv::run(std::int64_t first_item, std::int64_t end_item) const {
  AlignedBuffer in = float_buffer(shape_.in_channels * row_floats_);
  AlignedBuffer out = float_buffer(std::int64_t{shape_.out_channels} * kMaxVectorFloats);
  for (std::int64_t item = first_item; item < end_item; ++item) {
    const std::int64_t start = item % blocks_ * block_samples_;
    const std::int64_t n = std::min(block_samples_, shape_.out_samples - start);
    fill_input(floats(in), item / blocks_, start, n + shape_.history_samples());
    run_block(floats(in), floats(out), item / blocks_, start, static_cast<int>(n));
  }
}

void BatchConv::fill_input(float* scratch, std::int64_t batch, std::int64_t start,
                           std::int64_t n) const {
  const std::int64_t origin = start - zeros_before_;  // in the row, of scratch sample 0
  const std::int64_t begin = std::clamp<std::int64_t>(-origin, 0, n);
  const std::int64_t end = std::clamp(shape_.in_samples - origin, begin, n);
  const float* row = x_ + batch * shape_.in_channels * shape_.in_samples + origin + begin;
  for (int i = 0; i < shape_.in_channels; ++i) {
    std::fill_n(scratch, begin, 0.0f);
    std::memcpy(scratch + begin, row, static_cast<std::size_t>(end - begin) * sizeof(float));
    std::fill_n(scratch + end, n - end, 0.0f);
    scratch += row_floats_;
    row += shape_.in_samples;
  }
}

void BatchConv::run_block(float* in, float* out, std::int64_t batch, std::int64_t start,
                          int n) const {
  ConvTask task{};
  task.input = in;
  task.input_stride = row_floats_;
  task.weights = floats(weights_);
  task.bias = floats(bias_);
  task.in_channels = shape_.in_channels;
  task.out_channels = shape_.out_channels;
  task.taps = shape_.taps;
  task.dilation = shape_.dilation;
  task.activation = Activation::kNone;
  float* y = y_ + batch * shape_.out_channels * shape_.out_samples + start;
  // Whole vectors go straight to y; the rest of the row's last vector would go beyond its end.
  const int whole = n / kMaxVectorFloats * kMaxVectorFloats;
  if (whole > 0) {
    task.output = y;
    task.output_stride = shape_.out_samples;
    task.samples = whole;
    kernels_.conv(task);
  }
  if (whole == n) return;
  task.input = in + whole;
  task.output = out;
  task.output_stride = kMaxVectorFloats;
  task.samples = n - whole;
  kernels_.conv(task);
  for (int o = 0; o < shape_.out_channels; ++o) {
    std::copy_n(out + o * kMaxVectorFloats, n - whole, y + o * shape_.out_samples + whole);
  }
}

BatchWeightGrad::BatchWeightGrad(const BatchShape& shape, const KernelTable& kernels,
                                 const float* x, const float* grad_y, float* grad_w)
    : shape_(shape),
      kernels_(kernels),
      x_(x),
      grad_y_(grad_y),
      grad_w_(grad_w),
      out_chunks_((shape.out_channels + kGradOutputs - 1) / kGradOutputs),
      in_chunks_((shape.in_channels + kGradInputs - 1) / kGradInputs) {
  const std::int64_t missing = kMaxVectorFloats - shape.out_samples;
  if (missing <= 0) return;
  // Zeros at the end of grad_y add nothing to the sums.
  padded_x_ = with_zeros(x, shape.batch * shape.in_channels, shape.in_samples, missing);
  padded_grad_y_ = with_zeros(grad_y, shape.batch * shape.out_channels, shape.out_samples, missing);
  x_ = floats(padded_x_);
  grad_y_ = floats(padded_grad_y_);
  shape_.in_samples += missing;
  shape_.out_samples += missing;
}

std::int64_t BatchWeightGrad::multiply_adds_per_item() const {
  return std::int64_t{std::min(kGradOutputs, shape_.out_channels)} *
         std::min(kGradInputs, shape_.in_channels) * shape_.taps * shape_.batch *
         shape_.out_samples;
}

void BatchWeightGrad::run(std::int64_t first_item, std::int64_t end_item) const {
  AlignedBuffer sums(std::size_t{kGradOutputs} * kGradInputs *
                     static_cast<std::size_t>(shape_.taps) * sizeof(double));
  auto* grad = reinterpret_cast<double*>(sums.data());
  for (std::int64_t item = first_item; item < end_item; ++item) {
    const int first_out = static_cast<int>(item / in_chunks_) * kGradOutputs;
    const int first_in = static_cast<int>(item % in_chunks_) * kGradInputs;
    const int outs = std::min(kGradOutputs, shape_.out_channels - first_out);
    const int ins = std::min(kGradInputs, shape_.in_channels - first_in);
    std::memset(sums.data(), 0, sums.size());
    run_chunk(grad, first_out, outs, first_in, ins);
    const std::ptrdiff_t count = std::ptrdiff_t{ins} * shape_.taps;
    for (int o = 0; o < outs; ++o) {
      const std::ptrdiff_t row = std::ptrdiff_t{first_out + o} * shape_.in_channels + first_in;
      std::transform(grad + o * count, grad + (o + 1) * count, grad_w_ + row * shape_.taps,
                     [](double sum) { return static_cast<float>(sum); });
    }
  }
}

void BatchWeightGrad::run_chunk(double* grad, int first_out, int outs, int first_in,
                                int ins) const {
  WeightGradTask task{};
  task.grad = grad;
  task.input_stride = shape_.in_samples;
  task.grad_output_stride = shape_.out_samples;
  task.grad_stride = std::ptrdiff_t{ins} * shape_.taps;
  task.in_channels = ins;
  task.out_channels = outs;
  task.taps = shape_.taps;
  task.dilation = shape_.dilation;
  task.input_segment = shape_.in_channels * shape_.in_samples;
  task.grad_output_segment = shape_.out_channels * shape_.out_samples;
  // Rows shorter than a stretch share one: the sums across a vector's lanes are made once.
  const std::int64_t group = std::max<std::int64_t>(1, kGradSamples / shape_.out_samples);
  for (std::int64_t b = 0; b < shape_.batch; b += group) {
    const float* x = x_ + (b * shape_.in_channels + first_in) * shape_.in_samples;
    const float* g = grad_y_ + (b * shape_.out_channels + first_out) * shape_.out_samples;
    task.segments = static_cast<int>(std::min(group, shape_.batch - b));
    for (std::int64_t start = 0; start < shape_.out_samples;) {
      // The last stretch takes what is left, so that none is shorter than a vector.
      const std::int64_t left = shape_.out_samples - start;
      const std::int64_t n = left < 2 * kGradSamples ? left : kGradSamples;
      task.input = x + start;
      task.grad_output = g + start;
      task.samples = static_cast<int>(n);
      kernels_.conv_weight_grad(task);
      start += n;
    }
  }
}

}  // namespace fxfast
