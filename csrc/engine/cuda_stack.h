// Layers of WaveNets in a program, for the kernel that plays them one after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/program.h"
#include "kernels/cuda/cuda_program.h"

namespace fxfast {

// The operations of a layer, which follow one another; 0: it has none.
//   conv      z = convolution(x)
//   mixin     z = act(z + 1x1(condition))
//   sum       head = head + z; where it is missing, z is the head (of a first layer), or nobody's
//   residual  next x = x + 1x1(z); only a last layer may lack it
struct StackLayer {
  std::size_t conv = 0, mixin = 0, sum = 0, residual = 0;
  cuda::HeadOf head = cuda::HeadOf::kNone;
  bool reads_x = true;     // of a first layer: else the convolution reads another line
  std::int32_t ring = -1;  // of x, floats from the start of the state; placed with the spans
};

struct LayerStack {
  std::size_t first = 0, end = 0;  // operations
  int channels = 0;
  std::vector<StackLayer> layers;
  // Lines that are read before the first layer and written after the last, or kNoLine.
  std::uint32_t x = kNoLine, head = kNoLine, next_x = kNoLine, next_head = kNoLine;
};

// In the order of the program. Layers have at most kMostStackChannels channels and so few products
// in a sum that it needs no second accumulator.
std::vector<LayerStack> layer_stacks(const Program& program);

// Of the ring of a layer's x, a multiple of four.
std::int64_t ring_samples(const Program& program, const StackLayer& layer);

// How many channels the kernel that keeps so many times in a thread takes them for.
int stack_kernel_channels(int channels, int times);
constexpr int kMostStackChannels = 16;

}  // namespace fxfast
