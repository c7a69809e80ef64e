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

#include "kernels/delay_task.h"
#include "kernels/gain_task.h"
#include "kernels/lane_tasks.h"

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

// Recurrent layers. Both cells take one product of a matrix with (x, h) a sample, of four gates:
//   kLstm  i, g, f, o:  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
//   kGru   r, z, nx, nh:  n = tanh(nx + sigmoid(r) nh);  h = (1 - sigmoid(z)) n + sigmoid(z) h
// with nx the part of n that reads x and nh the part that reads h.
//
// Units stand in blocks of kUnitBlock, the last one half as wide where that is enough; what is
// wider than the layer is zero. Weights: block by block the rows of each x and then of each h (as
// many as there are lanes), a row holding the four gates of the block's units one after the other;
// biases the same with one row. Those of an LSTM are in the domain of exp2: the gates under a
// sigmoid are multiplied by -1 / ln2, those under a tanh by 2 / ln2, and so is c in the state.
//
// The order of sums is the same in every kernel and for every number of streams, so that a
// stream's bits do not depend on its neighbours: rows in runs of kRecurrentRun, the even and the
// odd rows of a run each in one chain of fused multiply-adds from zero, run = even + odd, the runs
// added in order; gate = sum over h + (sum over x + bias), where one x is added to the bias
// directly.
enum class Cell : std::uint32_t { kLstm = 0, kGru = 1 };
constexpr std::uint32_t kCellCount = 2;
constexpr int kUnitBlock = kMaxVectorFloats;
constexpr int kRecurrentRun = 64;
constexpr int recurrent_lanes(int units) {
  constexpr int half = kUnitBlock / 2;
  return (units + half - 1) / half * half;
}
constexpr std::ptrdiff_t gate_block_floats(std::ptrdiff_t units) {
  return (units + kMaxVectorFloats - 1) / kMaxVectorFloats * kMaxVectorFloats;
}
constexpr std::ptrdiff_t recurrent_weight_floats(std::ptrdiff_t in_channels, int units) {
  return (in_channels + recurrent_lanes(units)) * 4 * recurrent_lanes(units);
}
// Floats of a layer's state: h, c and room for the next h, gate_block_floats(units) each.
constexpr std::ptrdiff_t cell_state_floats(std::ptrdiff_t units) {
  return 3 * gate_block_floats(units);
}
// With room after them for the x of one sample, or, in a layer of more than one run, for x and h of
// kWideSamples samples.
constexpr int kWideSamples = 16;
constexpr std::ptrdiff_t recurrent_state_floats(std::ptrdiff_t in_channels, std::ptrdiff_t units) {
  const bool is_wide = recurrent_lanes(static_cast<int>(units)) > kRecurrentRun;
  return cell_state_floats(units) + (is_wide ? kWideSamples : 1) * gate_block_floats(in_channels) +
         (is_wide ? kWideSamples * gate_block_floats(units) : 0);
}

struct RecurrentTask {
  const float* weights;
  const float* bias;
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  int in_channels;
  int units;
  int samples;
  Cell cell;
};

// One stream of a layer: in_channels rows in, units rows out (h of every sample, with the slack of
// ConvTask), recurrent_state_floats(in_channels, units) of state.
struct RecurrentStream {
  const float* input;
  float* output;
  float* state;
};
constexpr int kMaxRecurrentStreams = 32;
constexpr int kMaxRecurrentLayers = 4;

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

// y[t] = bias + (add[t] + sum_n taps[n] * x[t - n]), n in [0, tap_count), of one channel. `input`
// is x[0], and samples before it are read; rows have the slack of ConvTask. `add` is nullptr for
// none.
struct FirTask {
  const float* input;
  float* output;
  const float* add;
  const float* taps;  // the factor of the newest sample first
  const float* bias;  // one value
  int tap_count;      // a multiple of kGroupBins
  int samples;
};

// Long filters of one channel, by blocks of B = 64 * 2^n samples in the frequency domain.
//
// Two blocks in a row, x = older + z^B newer, become the complex polynomial older + i newer modulo
// z^B - i, which is the real one modulo z^2B + 1: of a product with a response shorter than B, the
// imaginary part is the newer block, filtered. A transform splits the modulus z^2m - c^2 into
// z^m - c and z^m + c until it has B factors; so it takes no reordering, and no step from half a
// complex spectrum to a real one. Its inverse goes the same way back, times B.
//
// Complex arrays are in chunks of kChunk real parts, then as many imaginary ones. Spectra are in
// groups of kGroupBins factors; the one that the splits b, k, l (four ways each) lead to inside a
// group stands at 16 l + 4 b + k, where four-way splits across vectors leave it. Of several
// spectra, those of one group stand together: [group][spectrum][kGroupFloats].
//
// Twiddles: c of every split s of block b, complex numbers at 2^s - 1 + b, while blocks are
// longer than kChunk (B / 16 - 1 of them); then, from spectrum_twiddle_floats() on, for each group
// c of its last four splits, real and imaginary parts of kChunk lanes: of blocks of 16 (each value
// four times), of the even blocks of 8, of the blocks of 4, of the even blocks of 2. The odd ones
// have i times the c of the even one before.
constexpr int kChunk = 16;
constexpr int kGroupBins = 64;
constexpr int kGroupFloats = 2 * kGroupBins;
constexpr std::ptrdiff_t spectrum_twiddle_floats(std::ptrdiff_t bins) {
  return (bins / 8 + kChunk - 1) / kChunk * kChunk;
}

// sum = sum_{p = 1 ..< partitions} spectra[(newest + p) % partitions] * response[p] of one group.
struct SpectrumSumTask {
  const float* spectra;   // [partitions][kGroupFloats]
  const float* response;  // [partitions][kGroupFloats]
  float* sum;             // [kGroupFloats]
  int partitions;
  int newest;
};

// The spectrum of (older, newer) becomes number `newest` of the spectra, and
//   output[t] = add[t] + (imaginary part of the inverse of sum + spectrum * response[0])[t].
struct SpectrumBlockTask {
  const float* older;  // [bins]
  const float* newer;  // [bins]
  const float* twiddles;
  const float* response;  // [bins / kGroupBins][partitions][kGroupFloats], times 1 / bins
  float* sums;            // [2 * bins], changed
  const float* add;       // [bins], or nullptr for none
  float* spectra;         // [bins / kGroupBins][partitions][kGroupFloats]
  float* work;            // [2 * bins]
  float* output;          // [bins]
  int bins;
  int partitions;
  int newest;
};

// A filter by whole transforms: `input` is 2 * bins samples, and
//   output[t] = bias + (input, filtered)[2 * bins - step + t], t in [0, step).
// With one partition, step is from bins on, up to 2 * bins - taps + 1; with several, it is bins,
// the spectrum of `input` becomes number `newest` of the spectra, and those before it are added up.
struct SpectrumFilterTask {
  const float* input;
  float* output;
  const float* twiddles;
  const float* response;  // as in SpectrumBlockTask
  const float* bias;      // one value
  float* spectra;         // as in SpectrumBlockTask; not used with one partition
  float* work;            // 2 * bins + kSpectrumScratchFloats
  int bins;               // from kMinFilterBins on
  int partitions;
  int newest;
  int step;  // a multiple of kGroupBins
};
constexpr int kSpectrumScratchFloats = 16 * kGroupFloats;
constexpr int kMinFilterBins = 512;
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
  // `count` layers, up to kMaxRecurrentLayers, of which each reads the output of the one before,
  // all of equal `samples`, for up to kMaxRecurrentStreams streams: that of layer l and stream s
  // is streams[l * stream_count + s]. Any split into calls and any grouping of streams gives the
  // same bits.
  void (*recurrent)(const RecurrentTask* layers, int count, const RecurrentStream* streams,
                    int stream_count) noexcept;
  void (*conv_weight_grad)(const WeightGradTask& task) noexcept;
  // Runs `rounds` rounds of independent multiply-adds in registers; returns how many
  // floating-point operations that were (a multiply-add counts two). For measuring the peak.
  double (*multiply_add_burst)(std::int64_t rounds) noexcept;
  // Every output sample is summed in one order, as by conv.
  void (*fir)(const FirTask& task) noexcept;
  void (*spectrum_sum)(const SpectrumSumTask& task) noexcept;
  void (*spectrum_block)(const SpectrumBlockTask& task) noexcept;
  void (*spectrum_filter)(const SpectrumFilterTask& task) noexcept;
  void (*to_lanes)(const LanesTask& task) noexcept;
  void (*from_lanes)(const LanesTask& task) noexcept;
  void (*carry_lanes)(const CarryTask& task) noexcept;
  // The bits of a block do not depend on its lane.
  void (*spectral)(const SpectralTask& task) noexcept;
  // nullptr: a layer's operations run one by one, which is its reference twin.
  void (*layer)(const LayerTask& task) noexcept;
  // Every sample is made by the same operations, whatever `samples` is.
  void (*delay)(const DelayTask& task) noexcept;
  // Any split over time gives the same bits.
  void (*level_gain)(const LevelGainTask& task) noexcept;
};

const KernelTable& avx512_kernels();
const KernelTable& avx2_kernels();
const KernelTable& portable_kernels();
const KernelTable& reference_kernels();

}  // namespace fxfast
