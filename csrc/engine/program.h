// A model as the engine takes it: operations on lines, in the order in which they run.
//
// A line is a signal of some channels; line 0 is the input, the audio and then a channel for each
// knob, and one line is the output, of one channel. Every operation reads lines and writes one; a
// line is written before it is read. So a stack of convolutions, a WaveNet with all its side paths,
// and a chain of models are programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

namespace fxfast {

enum class OpKind : std::uint32_t {
  kConv = 0,
  kActivate = 1,
  kCombine = 2,
  kRecurrent = 3,
  kFilter = 4,
  // Only in plans: copies of a line between the ordinary layout and lanes (lane_tasks.h).
  kToLanes = 5,
  kFromLanes = 6,
  kDelay = 7,
  kLevelGain = 8,
};
constexpr std::uint32_t kOpKindCount = 9;
// Whether an operation depends on all samples before.
constexpr bool has_endless_memory(OpKind kind) {
  return kind == OpKind::kRecurrent || kind == OpKind::kDelay || kind == OpKind::kLevelGain;
}
constexpr bool is_layout(OpKind kind) {
  return kind == OpKind::kToLanes || kind == OpKind::kFromLanes;
}

// Channels of a line, from `first` on; how many follows from the operation.
struct Operand {
  std::uint32_t line = 0;
  std::uint32_t first = 0;
};
constexpr std::uint32_t kNoLine = 0xffffffffu;

struct Op {
  OpKind kind = OpKind::kConv;
  Activation activation = Activation::kNone;  // kConv, kActivate
  Combine combine = Combine::kAdd;            // kCombine
  Cell cell = Cell::kLstm;                    // kRecurrent
  Operand a;                                  // the input
  Operand b{kNoLine, 0};                      // kConv: added to the sums, or none; kCombine
  Operand c{kNoLine, 0};                      // kCombine, where it reads c
  Operand output;
  int in_channels = 0;  // kConv, kRecurrent, kFilter; kLevelGain: points of the curve
  int out_channels = 0;
  int taps = 1;      // kConv, kFilter
  int dilation = 1;  // kConv
  // kConv, kFilter: [out][in][tap], tap 0 is the oldest sample.
  // kRecurrent: [in + out][4][out], the rows of x and then of h; gates i, f, g, o of an LSTM, those
  // of a GRU as in kernel_table.h.
  std::vector<float> weight;
  std::vector<float> bias;  // kConv, kFilter: [out], or empty; kRecurrent: [4][out]
  // activation_params(activation, out_channels) values; kRecurrent: h and c before any sound;
  // kDelay: its numbers as delay_task.h packs them.
  // kLevelGain: kGainNumbers numbers and the curve.
  std::vector<float> params;

  std::int64_t history_samples() const { return std::int64_t{taps - 1} * dilation; }
};

struct Program {
  std::vector<int> line_channels;
  std::vector<Op> ops;
  std::uint32_t output_line = 0;
};

// The limits that keep every later product and allocation inside 64 bits and the memory.
constexpr std::int64_t kMaxLines = 16384;
constexpr std::int64_t kMaxOps = 16384;
constexpr std::int64_t kMaxChannels = 8192;
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 26;
constexpr std::int64_t kMaxReceptiveField = std::int64_t{1} << 24;

// Throws ModelError that names the field, what was expected and what came.
void validate(const Program& program);

}  // namespace fxfast
