// Layers of a WaveNet, one after the other, without a word to memory but for x.
//
// A thread has all channels of some times, thread_index() + kStackThreads * j, in registers: z, and
// the sum that the head reads, which stays there from the first layer to the last. Only x is in
// shared memory, its past in front of it, for the taps of other threads read it; the next x takes
// its place, for a thread reads nothing of it then but its own times. The past comes from the ring
// of the layer, and the weights from the plan, while the layer before is at its 1x1.
//
// Each sum has one order: taps from the oldest, channels within, the condition, bias.
#pragma once

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/team.cuh"

namespace fxfast::cuda {

// A column is about 64 values.
template <int kTimes>
constexpr int kStackThreads = kTimes == 3 ? 384 : kConvThreads;

// Channels that a kernel has; where the model has fewer, rows of any values follow them, which
// weights of zero keep to themselves.
template <int kChannels, int kTimes>
using Column = float[kChannels][kTimes];

template <int kChannels, int kTimes>
FXFAST_DEVICE void load_column(const float* row, int stride, Column<kChannels, kTimes>& column) {
  row += thread_index();
#pragma unroll
  for (int c = 0; c < kChannels; ++c, row += stride) {
#pragma unroll
    for (int j = 0; j < kTimes; ++j) column[c][j] = row[kStackThreads<kTimes> * j];
  }
}

template <int kChannels, int kTimes>
FXFAST_DEVICE void store_column(float* row, int stride, const Column<kChannels, kTimes>& column) {
  row += thread_index();
#pragma unroll
  for (int c = 0; c < kChannels; ++c, row += stride) {
#pragma unroll
    for (int j = 0; j < kTimes; ++j) row[kStackThreads<kTimes> * j] = column[c][j];
  }
}

// z += the products of rows and weights, which it leaves behind.
template <int kChannels, int kTimes>
FXFAST_DEVICE void add_rows(const float* row, int stride, int rows, const float*& weights,
                            Column<kChannels, kTimes>& z) {
#pragma unroll 4
  for (int i = 0; i < rows; ++i, weights += kChannels, row += stride) {
    float w[kChannels], x[kTimes];
    load_weights(weights, w);
#pragma unroll
    for (int j = 0; j < kTimes; ++j) x[j] = row[kStackThreads<kTimes> * j];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
#pragma unroll
      for (int j = 0; j < kTimes; ++j) z[c][j] = multiply_add(w[c], x[j], z[c][j]);
    }
  }
}

template <int kChannels, int kTimes>
FXFAST_DEVICE void activate_column(const CudaLayer& layer, const float* bias, const float* slopes,
                                   Column<kChannels, kTimes>& z) {
  const auto activation = static_cast<Activation>(layer.activation);
  if (activation == Activation::kTanh) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float b = bias[c];
#pragma unroll
      for (int j = 0; j < kTimes; ++j) z[c][j] = tanh_of(z[c][j] + b);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    const float b = bias[c], s = slopes[c];
#pragma unroll
    for (int j = 0; j < kTimes; ++j) {
      const float y = z[c][j] + b;
      z[c][j] = y > 0.0f ? y : y * s;
    }
  }
}

// x += 1x1(z), at the times of the thread.
template <int kChannels, int kTimes>
FXFAST_DEVICE void add_residual(float* row, int stride, const float* weights,
                                const Column<kChannels, kTimes>& z) {
  // What the registers of all architectures hold.
  constexpr int kMost = kTimes == 4 ? 4 : 8;
  constexpr int kPart = kChannels < kMost ? kChannels : kChannels % kMost == 0 ? kMost : 4;
  const float* bias = weights + kChannels * kChannels;
  row += thread_index();
#pragma unroll
  for (int part = 0; part < kChannels; part += kPart) {
    Column<kPart, kTimes> sum = {};
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      float w[kPart];
      load_weights(weights + i * kChannels + part, w);
#pragma unroll
      for (int c = 0; c < kPart; ++c) {
#pragma unroll
        for (int j = 0; j < kTimes; ++j) sum[c][j] = multiply_add(w[c], z[i][j], sum[c][j]);
      }
    }
#pragma unroll
    for (int c = 0; c < kPart; ++c) {
      const float b = bias[part + c];
#pragma unroll
      for (int j = 0; j < kTimes; ++j) row[kStackThreads<kTimes> * j] += sum[c][j] + b;
      row += stride;
    }
  }
}

// The rows of x of a layer and of its ring, a warp for each.
struct LayerRows {
  float *row, *ring;  // of the first channel of this warp; row is at time 0
  int stride, length, channels;

  FXFAST_DEVICE LayerRows(const Team& team, const CudaOp& op, const CudaLayer& layer)
      : row(team.slots + op.buffer_at),
        ring(team.state(0) + layer.state),
        stride(op.buffer_stride),
        length(layer.history),
        channels(layer.in_channels) {}
};

// The past of x of a layer, to the front of its rows, and the weights of the layer, on their way.
FXFAST_DEVICE void fetch_layer(const Team& team, const CudaOp& op, const CudaLayer& layer,
                               float* weights) {
  const float* from = floats_of(*team.run) + layer.weights;
  const int floats = layer.floats;
  for (int i = 4 * thread_index(); i < floats; i += 4 * thread_count()) {
    copy_four_async(weights + i, from + i);
  }
  if (layer.state < 0) return;
  const LayerRows rows(team, op, layer);
  const std::int64_t position = team.position(0);
  const int length = rows.length, start = ring_index(position, length);
  const int lane = thread_index() % kWarp;
  // A ring has a multiple of four samples. The first of them may never have been played.
  const int unknown = position < length ? length - static_cast<int>(position) : 0;
  const bool by_four = position % 4 == 0 && unknown == 0;
  for (int c = thread_index() / kWarp; c < rows.channels; c += thread_count() / kWarp) {
    float* to = rows.row + c * rows.stride - length;
    const float* ring = rows.ring + c * length;
    if (by_four) {
      for (int m = 4 * lane; m < length; m += 4 * kWarp) {
        const int at = start + m;
        copy_four_async(to + m, ring + (at < length ? at : at - length));
      }
      continue;
    }
    for (int m = lane; m < length; m += kWarp) {
      const int at = start + m;
      if (m >= unknown) {
        copy_async(to + m, ring + (at < length ? at : at - length));
      } else {
        to[m] = 0.0f;
      }
    }
  }
}

// The samples of x that later blocks read, into the ring.
FXFAST_DEVICE void store_layer(const Team& team, const CudaOp& op, const CudaLayer& layer,
                               int samples) {
  if (layer.state < 0) return;
  const LayerRows rows(team, op, layer);
  const std::int64_t position = team.position(0);
  const int length = rows.length, kept = samples < length ? samples : length;
  const int start = ring_index(position + samples - kept, length);
  const int lane = thread_index() % kWarp;
  const bool by_four = position % 4 == 0 && samples % 4 == 0;
  for (int c = thread_index() / kWarp; c < rows.channels; c += thread_count() / kWarp) {
    const float* from = rows.row + c * rows.stride + samples - kept;
    float* ring = rows.ring + c * length;
    if (by_four) {
      for (int m = 4 * lane; m < kept; m += 4 * kWarp) {
        const int at = start + m;
        store4(ring + (at < length ? at : at - length), load4(from + m));
      }
      continue;
    }
    for (int m = lane; m < kept; m += kWarp) {
      const int at = start + m;
      ring[at < length ? at : at - length] = from[m];
    }
  }
}

template <int kChannels, int kTimes>
FXFAST_DEVICE void play_stack(const Team& team, const CudaOp& op) {
  const CudaLayer* layers = layers_of(*team.run) + op.first_layer;
  float* places = shared_memory() + op.scratch;
  float* buffer = team.slots + op.buffer_at;
  const int stride = op.buffer_stride, samples = team.samples(0);
  Column<kChannels, kTimes> head = {};
  if (op.b.at >= 0) load_column(team.row(0, op.b, 0), op.b.stride, head);
  {
    Column<kChannels, kTimes> x;
    load_column(team.row(0, op.a, 0), op.a.stride, x);
    wait_for_all();
    store_column(buffer, stride, x);
  }
  fetch_layer(team, op, layers[0], places);
  for (int l = 0; l < op.layer_count; ++l) {
    const CudaLayer& layer = layers[l];
    const float* weights = places + (l & 1) * op.weight_place;
    wait_for_copies();
    wait_for_all();
    Column<kChannels, kTimes> z = {};
    const float* row = team.row(0, layer.source, 0) + thread_index();
    for (int back = (layer.taps - 1) * layer.dilation; back >= 0; back -= layer.dilation) {
      add_rows(row - back, layer.source.stride, layer.in_channels, weights, z);
    }
    store_layer(team, op, layer, samples);
    wait_for_all();
    // Nobody reads the past of x any more, nor what the layer before had for weights.
    if (l + 1 < op.layer_count) {
      fetch_layer(team, op, layers[l + 1], places + (~l & 1) * op.weight_place);
    }
    if (layer.condition_channels > 0) {
      add_rows(team.row(0, layer.condition, 0) + thread_index(), layer.condition.stride,
               layer.condition_channels, weights, z);
    }
    const float* after = weights + kChannels;
    activate_column(layer, weights, after + (layer.residual ? kChannels * (kChannels + 1) : 0), z);
    if (layer.head != HeadOf::kNone) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
#pragma unroll
        for (int j = 0; j < kTimes; ++j) head[c][j] += z[c][j];
      }
    }
    if (layer.residual) add_residual(buffer, stride, after, z);
  }
  // What comes out may stand where the buffer was.
  if (op.output.at >= 0) {
    Column<kChannels, kTimes> x;
    load_column(buffer, stride, x);
    wait_for_all();
    store_column(team.row(0, op.output, 0), op.output.stride, x);
  } else {
    wait_for_all();
  }
  if (op.c.at >= 0) store_column(team.row(0, op.c, 0), op.c.stride, head);
}

template <int kTimes>
FXFAST_DEVICE void play_any_stack(const Team& team, const CudaOp& op) {
  if constexpr (kTimes <= 4) {
    if (op.outs == 16) return play_stack<16, kTimes>(team, op);
    if (op.outs == 12) return play_stack<12, kTimes>(team, op);
    if (op.outs == 8) return play_stack<8, kTimes>(team, op);
    play_stack<4, kTimes>(team, op);
  } else {
    if (op.outs == 8) return play_stack<8, kTimes>(team, op);
    if (op.outs == 4) return play_stack<4, kTimes>(team, op);
    play_stack<2, kTimes>(team, op);
  }
}

}  // namespace fxfast::cuda
