// Convolutions and what works element by element.
//
// A warp takes panels of `outs` channels by tiles of 32 * `steps` times: lane l sums the times
// l, l + 32, ..., so that every read of a row is 32 floats side by side, whatever the dilation.
// Each sum has one order: taps from the oldest, channels within; after every kRun terms a total
// takes the sum over, then bias and what is added.
#pragma once

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/team.cuh"

namespace fxfast::cuda {

template <int kOuts>
FXFAST_DEVICE void load_weights(const float* from, float (&w)[kOuts]) {
  if constexpr (kOuts % 4 == 0) {
#pragma unroll
    for (int o = 0; o < kOuts; o += 4) {
      const float4 four = load4(from + o);
      w[o] = four.x, w[o + 1] = four.y, w[o + 2] = four.z, w[o + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int o = 0; o < kOuts; ++o) w[o] = from[o];
  }
}

template <int kOuts, int kSteps>
FXFAST_DEVICE void move_to_total(float (&total)[kOuts][kSteps], float (&sum)[kOuts][kSteps]) {
#pragma unroll
  for (int o = 0; o < kOuts; ++o) {
#pragma unroll
    for (int j = 0; j < kSteps; ++j) total[o][j] += sum[o][j], sum[o][j] = 0.0f;
  }
}

// Rows of the input, one for each time of a lane, at one tap. Times before the block are in front
// of the slot, or (kFromRing) in the ring, or before the stream, where all is zero.
template <int kSteps, bool kFromRing>
struct TapRows {
  const float* row[kSteps];
  std::int32_t stride[kFromRing ? kSteps : 1];

  FXFAST_DEVICE TapRows(const Team& team, const CudaOp& op, int stream, int time, int back) {
    const float* slot = team.row(stream, op.a, 0);
    if constexpr (!kFromRing) stride[0] = op.a.stride;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int t = time + kWarp * j - back;
      row[j] = slot + t;
      if constexpr (kFromRing) {
        stride[j] = op.a.stride;
        if (t < 0) set_past(team, op, stream, j, t);
      }
    }
  }

  FXFAST_DEVICE void set_past(const Team& team, const CudaOp& op, int stream, int j, int t) {
    const std::int64_t at = team.position(stream) + t;
    const float* state = team.state(stream);
    // The second half of the prefix of the state is zero.
    row[j] = at < 0 ? state + 2 : state + op.state + ring_index(at, op.history);
    stride[j] = at < 0 ? 0 : op.history;
  }

  FXFAST_DEVICE float next(int j) {
    const float x = *row[j];
    row[j] += stride[kFromRing ? j : 0];
    return x;
  }
};

// Of the activations only tanh and those that are a slope below zero are here, for code that is
// written out for every sum has to be short; others are operations of their own.
template <int kOuts, int kSteps>
FXFAST_DEVICE void finish_tile(const Team& team, const CudaOp& op, int stream, int panel, int time,
                               float (&sum)[kOuts][kSteps]) {
  const auto activation = static_cast<Activation>(op.activation);
#pragma unroll
  for (int o = 0; o < kOuts; ++o) {
    const int channel = panel * kOuts + o;
    if (channel >= op.out_channels) break;
    const float bias = op.bias < 0 ? 0.0f : team.floats[op.bias + channel];
    if (op.b.at >= 0) {
      const float* add = team.row(stream, op.b, channel) + time;
#pragma unroll
      for (int j = 0; j < kSteps; ++j) sum[o][j] += add[kWarp * j];
    }
    float* y = team.row(stream, op.output, channel) + time;
    if (activation == Activation::kTanh) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) y[kWarp * j] = tanh_of(sum[o][j] + bias);
    } else {
      const float slope = activation == Activation::kNone   ? 1.0f
                          : activation == Activation::kRelu ? 0.0f
                                                            : team.floats[op.params + channel];
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        const float z = sum[o][j] + bias;
        y[kWarp * j] = z > 0.0f ? z : z * slope;
      }
    }
  }
}

template <int kOuts, int kSteps, bool kLong, bool kFromRing>
FXFAST_DEVICE void conv_tile(const Team& team, const CudaOp& op, int stream, int panel, int time) {
  float sum[kOuts][kSteps] = {}, total[kLong ? kOuts : 1][kLong ? kSteps : 1] = {};
  const float* weights = team.floats + op.weights + panel * op.taps * op.in_channels * kOuts;
  int left = kRun;  // terms until the sums go over
  for (int k = 0; k < op.taps; ++k) {
    TapRows<kSteps, kFromRing> rows(team, op, stream, time, (op.taps - 1 - k) * op.dilation);
    for (int i = 0; i < op.in_channels;) {
      int count = op.in_channels - i;
      if (kLong && count > left) count = left;
      i += count;
#pragma unroll 4
      for (int n = 0; n < count; ++n, weights += kOuts) {
        float w[kOuts], x[kSteps];
        load_weights(weights, w);
#pragma unroll
        for (int j = 0; j < kSteps; ++j) x[j] = rows.next(j);
#pragma unroll
        for (int o = 0; o < kOuts; ++o) {
#pragma unroll
          for (int j = 0; j < kSteps; ++j) sum[o][j] = multiply_add(w[o], x[j], sum[o][j]);
        }
      }
      if constexpr (kLong) {
        left -= count;
        if (left == 0) move_to_total(total, sum), left = kRun;
      }
    }
  }
  if constexpr (kLong) {
    move_to_total(total, sum);
    finish_tile(team, op, stream, panel, time, total);
  } else {
    finish_tile(team, op, stream, panel, time, sum);
  }
}

template <int kOuts, int kSteps>
FXFAST_DEVICE void conv_tiles(const Team& team, const CudaOp& op) {
  const int panels = (op.out_channels + kOuts - 1) / kOuts;
  const int tiles = (static_cast<int>(header_of(*team.run).block_samples) + kWarp * kSteps - 1) /
                    (kWarp * kSteps);
  const bool is_long = op.taps * op.in_channels > kRun;
  const int lane = thread_index() % kWarp, warps = thread_count() / kWarp;
  for (int item = thread_index() / kWarp; item < team.streams * panels * tiles; item += warps) {
    const int stream = item / (panels * tiles), panel = item / tiles % panels;
    const int time = item % tiles * kWarp * kSteps;
    if (time >= team.samples(stream)) continue;
    if (op.state >= 0) {
      conv_tile<kOuts, kSteps, true, true>(team, op, stream, panel, time + lane);
    } else if (is_long) {
      conv_tile<kOuts, kSteps, true, false>(team, op, stream, panel, time + lane);
    } else {
      conv_tile<kOuts, kSteps, false, false>(team, op, stream, panel, time + lane);
    }
  }
}

// kMostOuts: of a tile; kernels that convolve little have small ones alone.
template <int kMostOuts>
FXFAST_DEVICE void convolve(const Team& team, const CudaOp& op) {
  if constexpr (kMostOuts >= 8) {
    if (op.outs == 8) {
      return op.steps == 4 ? conv_tiles<8, 4>(team, op) : conv_tiles<8, 2>(team, op);
    }
  }
  if constexpr (kMostOuts >= 4) {
    if (op.outs == 4) return conv_tiles<4, 2>(team, op);
    if (op.steps == 2) return conv_tiles<1, 2>(team, op);
  }
  conv_tiles<1, 1>(team, op);
}

FXFAST_DEVICE void activate(const Team& team, const CudaOp& op) {
  const auto activation = static_cast<Activation>(op.activation);
  for (int s = 0; s < team.streams; ++s) {
    const int samples = team.samples(s);
    for (int c = 0; c < op.out_channels; ++c) {
      const float* params = channel_params(activation, team.floats + op.params, c);
      for (int t = thread_index(); t < samples; t += thread_count()) {
        team.row(s, op.output, c)[t] = activated(activation, team.row(s, op.a, c)[t], params);
      }
    }
  }
}

FXFAST_DEVICE float combined(Combine how, float a, float b, float c) {
  if (how == Combine::kAdd) return a + b;
  if (how == Combine::kMultiply) return a * b;
  if (how == Combine::kScaleShift) return multiply_add(a, b, c);
  return multiply_add(b, a - c, c);  // kBlend
}

FXFAST_DEVICE void combine(const Team& team, const CudaOp& op) {
  const auto how = static_cast<Combine>(op.combine);
  for (int s = 0; s < team.streams; ++s) {
    const int samples = team.samples(s);
    for (int channel = 0; channel < op.out_channels; ++channel) {
      const float* a = team.row(s, op.a, channel);
      const float* b = team.row(s, op.b, channel);
      const float* c = reads_c(how) ? team.row(s, op.c, channel) : a;
      float* y = team.row(s, op.output, channel);
      for (int t = thread_index(); t < samples; t += thread_count()) {
        y[t] = combined(how, a[t], b[t], c[t]);
      }
    }
  }
}

}  // namespace fxfast::cuda
