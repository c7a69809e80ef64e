// The only contract between the engine and the kernels: packed layouts and function pointers.
//
// Audio inside the engine is channel-major: one row per channel, time along the row, so that
// a vector register holds consecutive samples of one channel and weights are broadcast.
//
// Packed convolution weights: output channels in panels of panel_channels() (the last panel may
// be narrower); inside a panel [tap][input channel][output channel of the panel]. Where
// taps_as_channels() says so, the taps of the one output channel stand in the place of output
// channels. The layout is the same for every instruction set, so one packed plan runs on all.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

constexpr int kMaxPanelChannels = 8;

// Panels of one layer are as even as they go: two of six rather than one of eight and one of four.
constexpr int panel_channels(int out_channels) {
  const int panels = (out_channels + kMaxPanelChannels - 1) / kMaxPanelChannels;
  return (out_channels + panels - 1) / panels;
}

// A layer of one output channel would use one accumulator row of a tile and load each input
// vector once per tap. Packed by taps, z_k[t] = sum_i w[0][i][k] * x[i][t] fills whole tiles, and
// y[t] = bias + sum_k z_k[t + k * dilation] costs additions only.
constexpr bool taps_as_channels(int out_channels, int in_channels, int taps) {
  return out_channels == 1 && in_channels >= 8 && taps >= 4;
}

// Kernels read and write whole vectors: every row has this many floats of slack at its end.
constexpr int kMaxVectorFloats = 16;

enum class Activation : std::uint32_t {
  kNone = 0,
  kRelu = 1,
  kPrelu = 2,  // x > 0 ? x : params[channel] * x; also carries LeakyReLU
  kTanh = 3,
  kSigmoid = 4,
  kHardtanh = 5,
  kFasttanh = 6,  // the rational approximation that the reference engine of .nam models has
  kSilu = 7,
  kHardswish = 8,
  kLeakyHardtanh = 9,  // params: low, high, slope below low, slope above high
  kSoftsign = 10,
};
constexpr std::uint32_t kActivationCount = 11;

// How many parameters an activation of so many channels has.
constexpr int activation_params(Activation activation, int channels) {
  if (activation == Activation::kPrelu) return channels;
  return activation == Activation::kLeakyHardtanh ? 4 : 0;
}

// y[o][t] = act(bias[o] + add[o][t] + sum_{k,i} w[o][i][k] * x[i][t + k * dilation]),
// t in [0, samples). `input` points at the oldest sample that output sample 0 reads. Rows of
// `input` hold samples + (taps - 1) * dilation valid values; up to kMaxVectorFloats - 1 more are
// read, and as many more of `output` are written with values that mean nothing. `add` is nullptr
// for none, and may be `output`: then the sum goes on where an earlier one ended.
struct ConvTask {
  const float* input;
  float* output;
  const float* add;
  const float* weights;  // packed
  const float* bias;     // out_channels values
  const float* params;   // of the activation
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  std::ptrdiff_t add_stride;
  int in_channels;
  int out_channels;
  int taps;
  int dilation;
  int samples;
  Activation activation;
};

// y = act(x), row by row; `output` may be `input`. Rows have the slack of ConvTask.
struct ActivateTask {
  const float* input;
  float* output;
  const float* params;
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  int channels;
  int samples;
  Activation activation;
};

enum class Combine : std::uint32_t {
  kAdd = 0,         // a + b
  kMultiply = 1,    // a * b
  kScaleShift = 2,  // a * b + c
  kBlend = 3,       // a * b + c * (1 - b)
};
constexpr std::uint32_t kCombineCount = 4;
constexpr bool reads_c(Combine combine) { return combine >= Combine::kScaleShift; }

// y = a combined with b and c, row by row; `output` may be any of them.
struct CombineTask {
  const float* a;
  const float* b;
  const float* c;
  float* output;
  std::ptrdiff_t a_stride;
  std::ptrdiff_t b_stride;
  std::ptrdiff_t c_stride;
  std::ptrdiff_t output_stride;
  int channels;
  int samples;
  Combine combine;
};

// One layer of a WaveNet, with z[c] and a[c] over the layer's `channels`:
//   z = bias + weights of the condition * condition + convolution of the input
//   a = act(z);  head = head_sum + a;  output = output_bias + residual + output_weights * a
// The convolution reads its input as ConvTask does, and rows have its slack. Any of head, head_sum,
// residual and output may be nullptr for none; rows of head may be those of head_sum, and rows of
// output those of residual. `output` may not be what the convolution reads, unless it has one tap.
constexpr int kMaxLayerChannels = 64;  // of each kind

struct LayerTask {
  const float* input;
  const float* condition;
  const float* residual;
  const float* head_sum;
  float* head;
  float* output;
  const float* weights;            // packed
  const float* condition_weights;  // packed, of one tap
  const float* output_weights;     // packed, of one tap
  const float* bias;               // channels
  const float* output_bias;        // out_channels
  const float* params;             // of the activation
  std::ptrdiff_t input_stride;
  std::ptrdiff_t condition_stride;
  std::ptrdiff_t residual_stride;
  std::ptrdiff_t head_sum_stride;
  std::ptrdiff_t head_stride;
  std::ptrdiff_t output_stride;
  int in_channels;
  int condition_channels;
  int channels;
  int out_channels;
  int taps;
  int dilation;
  int samples;
  Activation activation;
};

// Recurrent layers. Both cells take one product of a matrix with (x, h) a sample, of four gates in
// blocks of gate_block_floats(units) columns, zero where a block is wider than the layer:
//   kLstm  i, f, g, o:  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
//   kGru   r, z, nx, nh:  n = tanh(nx + sigmoid(r) nh);  h = (1 - sigmoid(z)) n + sigmoid(z) h
// with nx the part of n that reads x and nh the part that reads h.
enum class Cell : std::uint32_t { kLstm = 0, kGru = 1 };
constexpr std::uint32_t kCellCount = 2;
constexpr std::ptrdiff_t gate_block_floats(std::ptrdiff_t units) {
  return (units + kMaxVectorFloats - 1) / kMaxVectorFloats * kMaxVectorFloats;
}
// Floats of a layer's state: h, c and room for the next h, a block each.
constexpr std::ptrdiff_t cell_state_floats(std::ptrdiff_t units) {
  return 3 * gate_block_floats(units);
}

struct RecurrentTask {
  const float* input;    // in_channels rows
  float* output;         // units rows: h of every sample
  const float* weights;  // in_channels + units rows of four blocks: of each x, then of each h
  const float* bias;     // four blocks
  float* state;          // cell_state_floats(units)
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  int in_channels;
  int units;
  int samples;
  Cell cell;
};

// The gradient of a convolution for its weights, over stretches of time:
//   grad[o * grad_stride + i * taps + k] +=
//       sum_{s,t} grad_output[s][o][t] * input[s][i][t + k * dilation]
// with s in [0, segments) and t in [0, samples), samples at least kMaxVectorFloats. Rows need no
// slack. The sums of one call are float32, the running total is double.
struct WeightGradTask {
  const float* input;
  const float* grad_output;
  double* grad;
  std::ptrdiff_t input_segment;
  std::ptrdiff_t grad_output_segment;
  std::ptrdiff_t input_stride;
  std::ptrdiff_t grad_output_stride;
  std::ptrdiff_t grad_stride;
  int in_channels;
  int out_channels;
  int taps;
  int dilation;
  int segments;
  int samples;
};

enum class Requires { kNone, kX86_64_v3, kX86_64_v4 };

struct KernelTable {
  const char* name;
  Requires required;
  int vector_floats;
  // Every output sample is summed in one order, whatever `samples` is and wherever the sample
  // stands in the task: splitting a task over time changes no bit.
  void (*conv)(const ConvTask& task) noexcept;
  void (*activate)(const ActivateTask& task) noexcept;
  void (*combine)(const CombineTask& task) noexcept;
  // Layers of which each reads the output of the one before, of equal `samples`; any split into
  // calls gives the same bits.
  void (*recurrent)(const RecurrentTask* layers, int count) noexcept;
  void (*conv_weight_grad)(const WeightGradTask& task) noexcept;
  // Runs `rounds` rounds of independent multiply-adds in registers; returns how many
  // floating-point operations that were (a multiply-add counts two). For measuring the peak.
  double (*multiply_add_burst)(std::int64_t rounds) noexcept;
  // nullptr: a layer's operations run one by one, which is its reference twin.
  void (*layer)(const LayerTask& task) noexcept;
};

const KernelTable& avx512_kernels();
const KernelTable& avx2_kernels();
const KernelTable& portable_kernels();
const KernelTable& reference_kernels();

}  // namespace fxfast
