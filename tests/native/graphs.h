// Deterministic random graphs and signals for the native tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/program.h"

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

inline fxfast::Op conv(Noise& noise, int in, int out, int taps, int dilation,
                       fxfast::Activation activation) {
  fxfast::Op op;
  op.in_channels = in;
  op.out_channels = out;
  op.taps = taps;
  op.dilation = dilation;
  op.activation = activation;
  const auto outs = static_cast<std::size_t>(out);
  const auto terms = static_cast<std::size_t>(in) * static_cast<std::size_t>(taps);
  op.weight = noise.take(outs * terms, 1.7f / std::sqrt(static_cast<float>(terms)));
  op.bias = noise.take(outs, 0.2f);
  op.params =
      noise.take(static_cast<std::size_t>(fxfast::activation_params(activation, out)), 0.3f);
  if (activation == fxfast::Activation::kLeakyHardtanh) op.params = {-0.5f, 0.6f, 0.1f, 0.2f};
  return op;
}

// Convolutions one after the other, each into a line of its own; with `skip` the input is added.
inline fxfast::Program stack(const std::vector<fxfast::Op>& convolutions, bool skip = false) {
  fxfast::Program program;
  program.line_channels = {1};
  for (fxfast::Op op : convolutions) {
    op.a.line = static_cast<std::uint32_t>(program.line_channels.size() - 1);
    op.output.line = op.a.line + 1;
    program.line_channels.push_back(op.out_channels);
    program.output_line = op.output.line;
    program.ops.push_back(op);
  }
  if (skip) {
    fxfast::Op add;
    add.kind = fxfast::OpKind::kCombine;
    add.out_channels = 1;
    add.a.line = add.output.line = program.output_line;
    add.b.line = 0;
    program.ops.push_back(add);
  }
  return program;
}

// 1 -> 11 -> 8 -> 9 -> 4 -> 1 channels with every kind of sum and a dilation; receptive field 42.
inline fxfast::Program small_graph(bool skip = false) {
  using fxfast::Activation;
  Noise noise(7);
  return stack(
      {conv(noise, 1, 11, 5, 1, Activation::kPrelu), conv(noise, 11, 8, 3, 7, Activation::kTanh),
       conv(noise, 8, 9, 2, 13, Activation::kRelu), conv(noise, 9, 4, 1, 1, Activation::kSigmoid),
       conv(noise, 4, 1, 11, 1, Activation::kNone)},
      skip);
}

// A gated layer with side paths, as a WaveNet has them: z = conv(h) + mixin(x), in place;
// a = tanh(top) * sigmoid(bottom); a second signal blends and scales; head sums; residual.
inline fxfast::Program gated_graph() {
  using fxfast::Activation;
  using fxfast::Combine;
  using fxfast::OpKind;
  Noise noise(11);
  fxfast::Program program;
  program.line_channels = {1, 5, 10, 5, 5, 1};  // x, h, z, a, h2, head
  const auto add_conv = [&](fxfast::Op op, std::uint32_t a, std::uint32_t b, std::uint32_t out) {
    op.a.line = a;
    op.b.line = b;
    op.output.line = out;
    program.ops.push_back(op);
  };
  const auto activate = [&](fxfast::Operand a, std::uint32_t out, std::uint32_t first,
                            Activation activation) {
    fxfast::Op op;
    op.kind = OpKind::kActivate;
    op.activation = activation;
    op.out_channels = 5;
    op.a = a;
    op.output = {out, first};
    program.ops.push_back(op);
  };
  const auto combine = [&](Combine kind, fxfast::Operand a, fxfast::Operand b, fxfast::Operand c,
                           std::uint32_t out) {
    fxfast::Op op;
    op.kind = OpKind::kCombine;
    op.combine = kind;
    op.out_channels = 5;
    op.a = a;
    op.b = b;
    op.c = c;
    op.output.line = out;
    program.ops.push_back(op);
  };
  const fxfast::Operand none{fxfast::kNoLine, 0};
  add_conv(conv(noise, 1, 5, 1, 1, Activation::kNone), 0, fxfast::kNoLine, 1);
  add_conv(conv(noise, 5, 10, 3, 9, Activation::kNone), 1, fxfast::kNoLine, 2);
  add_conv(conv(noise, 1, 10, 1, 1, Activation::kNone), 0, 2, 2);
  activate({2, 5}, 2, 5, Activation::kSigmoid);
  activate({2, 0}, 3, 0, Activation::kTanh);
  combine(Combine::kBlend, {3, 0}, {2, 5}, {2, 0}, 3);
  combine(Combine::kScaleShift, {3, 0}, {2, 5}, {1, 0}, 3);
  combine(Combine::kMultiply, {3, 0}, {2, 5}, none, 3);
  add_conv(conv(noise, 5, 5, 1, 1, Activation::kSoftsign), 3, 1, 4);
  add_conv(conv(noise, 5, 1, 4, 2, Activation::kNone), 4, 0, 5);
  program.output_line = 5;
  return program;
}

// A convolution, then two recurrent layers of `units` and 3 units, then a sum to one channel.
inline fxfast::Program recurrent_graph(fxfast::Cell cell, int units) {
  using fxfast::Activation;
  Noise noise(21);
  fxfast::Program program = stack({conv(noise, 1, 2, 3, 5, Activation::kTanh)});
  int channels = 2;
  for (int size : {units, 3}) {
    fxfast::Op op;
    op.kind = fxfast::OpKind::kRecurrent;
    op.cell = cell;
    op.in_channels = channels;
    op.out_channels = size;
    op.a.line = static_cast<std::uint32_t>(program.line_channels.size() - 1);
    op.output.line = op.a.line + 1;
    const auto count = static_cast<std::size_t>(size);
    const auto rows = static_cast<std::size_t>(channels + size);
    op.weight = noise.take(rows * 4 * count, 1.2f / std::sqrt(static_cast<float>(rows)));
    op.bias = noise.take(4 * count, 0.3f);
    op.params = noise.take(2 * count, 0.5f);
    program.line_channels.push_back(size);
    program.ops.push_back(op);
    channels = size;
  }
  fxfast::Op head = conv(noise, 3, 1, 1, 1, Activation::kNone);
  head.a.line = static_cast<std::uint32_t>(program.line_channels.size() - 1);
  head.output.line = head.a.line + 1;
  program.line_channels.push_back(1);
  program.ops.push_back(head);
  program.output_line = head.output.line;
  return program;
}

// A long filter with a bias; with `around`, between two convolutions.
inline fxfast::Program filter_graph(int taps, bool around = false) {
  using fxfast::Activation;
  Noise noise(31);
  fxfast::Op filter = conv(noise, 1, 1, taps, 1, Activation::kNone);
  filter.kind = fxfast::OpKind::kFilter;
  if (!around) return stack({filter});
  return stack({conv(noise, 1, 1, 5, 3, Activation::kTanh), filter,
                conv(noise, 1, 3, 2, 1, Activation::kTanh),
                conv(noise, 3, 1, 1, 1, Activation::kNone)});
}

}  // namespace testing
