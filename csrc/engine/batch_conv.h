// Convolutions of batches of whole rows, for training: cut into independent items of work, so
// that the caller's threads share them. What an item computes depends on the shapes alone, so
// the result is the same for every number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffers.h"
#include "kernels/kernel_table.h"
#include "kernels/pack_weights.h"

namespace fxfast {

// Rows are contiguous: x[batch][in_channels][in_samples], y[batch][out_channels][out_samples].
struct BatchShape {
  std::int64_t batch, in_samples, out_samples;
  int in_channels, out_channels, taps, dilation;

  std::int64_t history_samples() const { return std::int64_t{taps - 1} * dilation; }
};

// y[o][t] = bias[o] + sum_{k,i} w[o][i][k] * x[i][t + k * dilation - zeros_before], where x is
// zero outside its row.
class BatchConv {
 public:
  // `bias` may be null. Keeps the pointers to x and y; the weights are copied.
  BatchConv(const BatchShape& shape, const KernelTable& kernels, const WeightView& weights,
            const float* bias, const float* x, std::int64_t zeros_before, float* y);

  std::int64_t items() const { return shape_.batch * blocks_; }
  std::int64_t multiply_adds_per_item() const;
  void run(std::int64_t first_item, std::int64_t end_item) const;

 private:
  void fill_input(float* scratch, std::int64_t batch, std::int64_t start, std::int64_t n) const;
  void run_block(float* in, float* out, std::int64_t batch, std::int64_t start, int n) const;

  BatchShape shape_;
  const KernelTable& kernels_;
  AlignedBuffer weights_, bias_;
  const float* x_;
  std::int64_t zeros_before_;
  float* y_;
  std::int64_t block_samples_, blocks_;
  std::ptrdiff_t row_floats_;  // of the input scratch
};

// grad_w[o][i][k] = sum_{batch,t} grad_y[o][t] * x[i][t + k * dilation].
class BatchWeightGrad {
 public:
  BatchWeightGrad(const BatchShape& shape, const KernelTable& kernels, const float* x,
                  const float* grad_y, float* grad_w);

  std::int64_t items() const { return out_chunks_ * in_chunks_; }
  std::int64_t multiply_adds_per_item() const;
  void run(std::int64_t first_item, std::int64_t end_item) const;

 private:
  void run_chunk(double* grad, int first_out, int outs, int first_in, int ins) const;

  BatchShape shape_;
  const KernelTable& kernels_;
  AlignedBuffer padded_x_, padded_grad_y_;  // where rows are shorter than a vector
  const float* x_;
  const float* grad_y_;
  float* grad_w_;
  std::int64_t out_chunks_, in_chunks_;
};

}  // namespace fxfast
