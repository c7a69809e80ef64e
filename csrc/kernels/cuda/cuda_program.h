// A program as the CUDA kernel takes it: plain data, one block of bytes, the same on host and
// device.
//
// One thread block (below: a team) plays one or more streams through all operations, block of
// time by block of time. The samples of a block are in shared memory, in slots; what later blocks
// need of a line, its history, is in a ring in the state of the stream, in device memory. Rows are
// [channel][time]; a slot of a line that convolutions of several taps read has its history, fetched
// from the ring, in front of time 0 of each row.
//
// Layout: CudaHeader | CudaOp[op_count] | CudaLayer[layer_count] | floats, from a multiple of 16
// bytes on: weights, biases, params.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast::cuda {

constexpr std::uint32_t kVersion = 1;
constexpr int kMaxTeamStreams = 32;
constexpr int kConvThreads = 256;
constexpr int kMaxRecurrentThreads = 1024;
constexpr int kWarp = 32;
constexpr int kRun = 64;        // terms of a sum, after which a total takes it over
constexpr int kStagedOuts = 8;  // output channels of a tile of staged.cuh
// Kernels, as `register_rows` names them, without recurrent operations (play.cuh).
constexpr int kNoCells = -1, kWideCells = -2, kStacks4 = -3, kStacks8 = -4, kStagedConvs = -5,
              kStacks3 = -7;
// With operations of every kind, delays and gains among them.
constexpr int kMixed = -6;
// What a thread of a kernel with stacks has of times, 0: it has none; and its threads.
constexpr int stack_times(int kernel) {
  return kernel == kStacks8 ? 8 : kernel == kStacks4 ? 4 : kernel == kStacks3 ? 3 : 0;
}
constexpr int threads_of(int kernel) { return kernel == kStacks3 ? 384 : kConvThreads; }
// Of long filters: the taps that are summed directly, and the length of transforms.
constexpr int kTailBlock = 512, kTailBins = 2 * kTailBlock;

// Kernels of recurrent layers hold at most so many rows of weights in registers, and then so many
// of their teams fit a multiprocessor; others fill it with one.
constexpr int kFewRows = 20, kFewRowsTeams = 2, kManyRows = 44;

// A recurrent layer whose streams each stay within a warp: it has a kernel for at most so many
// units and inputs. Units beyond those of the lanes have one gate in each of four lanes.
struct WarpShape {
  int units, inputs;
  int turns;  // streams that a lane plays one after the other

  constexpr int lanes() const { return units <= 8 ? 8 : units <= 16 ? 16 : kWarp; }
  constexpr int sides() const { return kWarp / lanes(); }
  constexpr int streams() const { return sides() * turns; }
  constexpr int extra_units() const { return units > kWarp ? units - kWarp : 0; }
  constexpr int rows() const { return units + inputs; }
  // Of shared memory: h of a stream and, where there are several inputs, those; of a warp two
  // such places for each stream and the gates of extra units; of a team the weights and biases of
  // these.
  constexpr int stream_floats() const { return units + (inputs > 1 ? inputs : 0); }
  constexpr int warp_floats() const {
    return 2 * streams() * stream_floats() + (extra_units() > 0 ? turns * kWarp : 0);
  }
  constexpr int scratch_floats(int warps) const {
    return warps * warp_floats() + (extra_units() > 0 ? (units + 8) * kWarp : 0);
  }
};
constexpr WarpShape kWarpShapes[] = {{8, 1, 1},  {8, 8, 1},  {16, 1, 1}, {16, 8, 1}, {16, 16, 1},
                                     {24, 1, 2}, {24, 8, 1}, {32, 1, 2}, {32, 8, 1}, {40, 1, 1}};

enum class CudaOpKind : std::int32_t {
  kInput,  // the block of the input, and that of the knobs, into its slot
  kFetch,  // a line's history from its ring
  kStore,  // the block of a line into its ring
  kConv,
  kActivate,
  kCombine,
  kRecurrent,
  kOutput,
  kStack,  // layers of a WaveNet, one after the other (stack.cuh)
  kDelay,  // a delay line (delay.cuh)
  kGain,   // a gain that follows the level (gain.cuh)
  kTail,   // what a long filter adds to its first taps (tail.cuh)
};

// A line in shared memory: floats from the start of a stream's slots to channel 0 at time 0.
struct Slot {
  std::int32_t at = -1;
  std::int32_t stride = 0;
};

struct CudaOp {
  CudaOpKind kind;
  std::int32_t activation, combine, cell;
  std::int32_t in_channels, out_channels, taps, dilation;
  Slot a, b, c, output;
  std::int32_t weights, bias, params;  // floats from the start of the plan's floats; -1: none
  // kFetch, kStore, and a kConv that reads its past from the ring: the ring, floats from the start
  // of a stream's state, `history` samples a channel. -1: not read from the ring.
  // kRecurrent: h and c, `out_channels` floats each. kDelay: what was before the stream, sections,
  // and a ring of `history` samples. kGain: a GainState. kTail: see tail.cuh, of `history` spectra.
  std::int32_t state;
  std::int32_t history;
  // kConv: output channels and times of a thread. kRecurrent: which of kWarpShapes, or -1.
  std::int32_t outs, steps;
  std::int32_t scratch;  // kRecurrent, kStack: floats from the start of shared memory
  std::int32_t barrier;  // whether all threads wait before it
  // kStack: its layers, which stand behind the operations. Its `a` and `b` are the first x and, or
  // none, the first head; `output` and `c` what x and head, or none, become.
  std::int32_t first_layer, layer_count;
  std::int32_t buffer_at, buffer_stride;  // of x, its past in front, as a Slot
  std::int32_t weight_place;              // floats of the weights of a layer, at most
  // What the state begins with, floats from the start of the plan's floats, and how many.
  std::int32_t cells, cell_floats;
};

// The params of a kDelay: CudaDelay | voices | sections | tables.
struct CudaDelay {
  float dry, wet, wet_filtered, feedback;
  float gain_at_rest;
  std::int32_t points, voices, sections;
  std::int32_t shortest;  // so many samples can be made at once in a loop
  std::int32_t reserved[3];
};
struct CudaVoice {
  std::uint64_t step, start;  // of the phase, as DelayVoice
  float gain;
  std::int32_t base, bits;
  std::int32_t table;  // floats from the start of the params
};
struct CudaSection {
  float numbers[5];  // g, k, m0, m1, m2
  float reserved[3];
};

enum class HeadOf : std::int32_t { kNone, kBegins, kAdds };

// A layer: z = act(conv(source) + mixin(condition)), head and z summed, x = x + 1x1(z).
struct CudaLayer {
  Slot source, condition;
  std::int32_t in_channels, taps, dilation, condition_channels;
  std::int32_t activation;
  HeadOf head;
  std::int32_t residual;        // whether there is a 1x1 and a next x
  std::int32_t weights;         // floats from the start of the plan's floats:
  std::int32_t floats;          // [tap][in] conv | [in] mixin | bias | [in] 1x1 | bias | slopes,
                                // each a row of the channels that the kernel has
  std::int32_t state, history;  // the ring of x, as of kStore; -1: source is not x
};

struct CudaHeader {
  char magic[8];  // "fxfcuda\0"
  std::uint32_t version, op_count;
  std::uint64_t plan_bytes;
  std::uint32_t block_samples;   // at most, of one pass through the operations
  std::uint32_t team_streams;    // streams that one team plays side by side
  std::uint32_t threads;         // of a team
  std::uint32_t shared_floats;   // of a team: [weights | scratch | slots of each stream]
  std::uint32_t slot_floats;     // of one stream
  std::uint32_t slots_at;        // where the slots of the first stream are in shared memory
  std::uint32_t shared_weights;  // floats of the plan that are copied into shared memory, 0: none
  std::uint32_t state_floats;    // of one stream
  std::int32_t register_rows;    // of run_op, chooses the kernel
  std::uint32_t is_recurrent;
  std::uint64_t reach;          // samples before an output sample that it depends on
  std::uint64_t multiply_adds;  // a sample
  std::uint64_t floats;         // weights, biases and params
  std::uint64_t layer_count;
};

// Where the floats are: bytes from the start of the plan, a multiple of 16.
constexpr std::size_t floats_at(const CudaHeader& header) {
  const std::size_t end = sizeof(CudaHeader) + header.op_count * sizeof(CudaOp) +
                          header.layer_count * sizeof(CudaLayer);
  return (end + 15) / 16 * 16;
}

// The state of a stream: its samples so far (as an integer, in the first two floats), then cells
// and rings.
constexpr std::int32_t kStatePrefix = 4;

// A stretch of one stream. `first` is the sample of the stream that the stretch begins with; the
// `warm_up` samples before it are played and not written; samples below 0 are silence.
struct CudaJob {
  std::int64_t input;   // floats from the start of the input to sample 0 of the stream
  std::int64_t output;  // floats from the start of the output to sample 0 of the stream
  std::int64_t first;
  std::int64_t samples;
  std::int64_t warm_up;
  std::int64_t state;  // floats from the start of the states, where the stream goes on; -1: it
                       // starts anew, in memory of the team
  // Floats from the start of the knobs to the first knob's value at sample 0 of the stream, and
  // from one knob to the next; with 0 knobs are held, one value after the other.
  std::int64_t knobs;
  std::int64_t knob_stride;
};

struct CudaRun {
  const std::byte* plan;  // all pointers of the device
  const CudaJob* jobs;
  const float* input;
  const float* knobs;
  float* output;
  float* states;
  float* team_states;  // team_streams * state_floats floats for each team
  std::int32_t job_count;
};

}  // namespace fxfast::cuda
