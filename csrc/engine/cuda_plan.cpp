#include "engine/cuda_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/cuda_cells.h"
#include "engine/cuda_steps.h"
#include "engine/packed_plan.h"

namespace fxfast {
namespace {

using cuda::CudaHeader;
using cuda::CudaOp;
using cuda::CudaOpKind;

// Block lengths, and whether weights are in shared memory, best first. With stacks: what a thread
// has of times, which is the block length by the threads. `staged`: weights of long sums come term
// by term.
struct Choice {
  int block;
  bool shared;
  int stack_times = 0;
  bool staged = false;
};
constexpr Choice kStagedChoices[] = {{512, true, 0, true}, {256, true, 0, true}};
constexpr Choice kStackChoices[] = {{8 * cuda::kConvThreads, true, 8},
                                    {4 * cuda::kConvThreads, true, 4}};
constexpr Choice kChoices[] = {{256, true}, {128, true}, {256, false}, {128, false},
                               {64, false}, {32, true},  {32, false}};
constexpr int kRecurrentBlock = 64;
// Of a team with recursions that one thread plays: more would leave multiprocessors idle.
constexpr int kMixedStreams = 8;
constexpr int kLeastStagedTerms = 16;
constexpr int kConvWarps = cuda::kConvThreads / cuda::kWarp;
// Lines whose history does not fit are read from their rings, but not so many that a smaller block
// would be better.
constexpr int kMostFromRing = 4;

// Floats of a delay beyond its numbers: rounded up, and its state.
constexpr int kMostDelayCells = 256;

int round_to_warp(int threads) { return (threads + cuda::kWarp - 1) / cuda::kWarp * cuda::kWarp; }

// Rows of a slot begin in different banks, for a step writes one sample of many of them.
constexpr int kRecurrentMargin = 4;

// Which of kWarpShapes a recurrent layer takes, -1: none.
int warp_shape(const Op& op) {
  int index = 0;
  for (const cuda::WarpShape& shape : cuda::kWarpShapes) {
    if (op.out_channels <= shape.units && op.in_channels <= shape.inputs) return index;
    ++index;
  }
  return -1;
}

class Packer {
 public:
  Packer(const Program& program, const KernelTable& kernels, const CudaLimits& limits)
      : program_(program), limits_(limits) {
    const AlignedBuffer bytes = pack_plan(program);
    const PlanView view(bytes.data(), bytes.size());
    cells_ = settled_cells(view, kernels);
    header_.is_recurrent = cells_.empty() ? 0 : 1;
    header_.multiply_adds = static_cast<std::uint64_t>(view.multiply_adds_per_sample());
    if (cells_.empty()) header_.reach = static_cast<std::uint64_t>(view.receptive_field() - 1);
  }

  AlignedBuffer pack() {
    set_team();
    if (!fit()) {
      throw ModelError("model: expected lines that fit " + std::to_string(limits_.shared_bytes) +
                       " bytes of shared memory, got wider ones");
    }
    add_ops();
    return bytes();
  }

 private:
  void set_team() {
    header_.register_rows = -1;
    header_.threads = cuda::kConvThreads;
    header_.team_streams = 1;
    if (cells_.empty()) return;
    header_.register_rows = 0;
    int units = 1, streams = cuda::kMaxTeamStreams;
    for (const Op& op : program_.ops) {
      if (op.kind != OpKind::kRecurrent) continue;
      units = std::max(units, op.out_channels);
      const int shape = warp_shape(op);
      if (shape < 0) {
        streams = std::min(streams, cuda::kConvThreads / op.out_channels);
      } else {
        const cuda::WarpShape& found = cuda::kWarpShapes[shape];
        streams = std::min(streams, kConvWarps * found.streams());
        header_.register_rows = std::max(header_.register_rows, found.rows());
      }
    }
    if (units > cuda::kMaxRecurrentThreads) {
      throw ModelError("units: expected at most " + std::to_string(cuda::kMaxRecurrentThreads) +
                       " on CUDA, got " + std::to_string(units));
    }
    if (is_mixed(program_)) {
      if (units > cuda::kConvThreads) {
        throw ModelError("units: expected at most " + std::to_string(cuda::kConvThreads) +
                         " beside delays and gains on CUDA, got " + std::to_string(units));
      }
      header_.register_rows = cuda::kMixed;
      header_.team_streams =
          static_cast<std::uint32_t>(std::min(kMixedStreams, cuda::kConvThreads / units));
      return;
    }
    if (units > cuda::kConvThreads) {
      header_.threads = static_cast<std::uint32_t>(round_to_warp(units));
      header_.register_rows = 0;
    } else {
      header_.team_streams = static_cast<std::uint32_t>(streams);
    }
  }

  // Of the shapes, where the kernel has them.
  int shape_of(const Op& op) const { return header_.register_rows > 0 ? warp_shape(op) : -1; }

  std::int64_t scratch_of(const Op& op) const {
    const int shape = shape_of(op);
    if (shape >= 0) return cuda::kWarpShapes[shape].scratch_floats(kConvWarps);
    return std::int64_t{2} * header_.team_streams * (op.in_channels + op.out_channels);
  }

  // Block length, rings and whether weights go into shared memory: the first choice that fits.
  bool fit() {
    const bool has_few_rows = header_.register_rows > 0 && header_.register_rows <= cuda::kFewRows;
    // Of what a multiprocessor has each team takes a kilobyte more.
    const int beside = limits_.shared_bytes / cuda::kFewRowsTeams - 1024;
    return (has_few_rows && fit(beside)) || fit(limits_.shared_bytes);
  }

  bool fit(int most_bytes) {
    most_bytes_ = most_bytes;
    const std::vector<bool> fetched(program_.line_channels.size(), false);
    for (const Choice& choice : kStackChoices) {
      if (has_stacks(choice.stack_times) && try_fit(choice, fetched)) {
        header_.register_rows = choice.stack_times == 4 ? cuda::kStacks4 : cuda::kStacks8;
        return true;
      }
    }
    if (has_staged()) {
      for (const Choice& choice : kStagedChoices) {
        if (!try_fit(choice, fetched)) continue;
        header_.register_rows = cuda::kStagedConvs;
        return true;
      }
    }
    for (Choice choice : kChoices) {
      if (header_.is_recurrent != 0) choice.block = std::min(choice.block, kRecurrentBlock);
      std::vector<bool> from_ring(program_.line_channels.size(), false);
      for (int most = 0; most <= kMostFromRing; ++most) {
        if (try_fit(choice, from_ring)) return true;
        if (!move_largest_to_ring(from_ring)) break;
      }
    }
    // Narrow blocks with every history in its ring.
    return try_fit({cuda::kWarp, false}, std::vector<bool>(program_.line_channels.size(), true));
  }

  // Whether there are stacks, of channels that a kernel with so many times has.
  bool has_stacks(int times) const {
    if (header_.is_recurrent != 0) return false;
    const std::vector<LayerStack> stacks = layer_stacks(program_);
    const int most = times == 8 ? 8 : kMostStackChannels;
    return !stacks.empty() &&
           std::all_of(stacks.begin(), stacks.end(),
                       [&](const LayerStack& stack) { return stack.channels <= most; });
  }

  static bool is_staged(const Op& op) {
    return (op.kind == OpKind::kConv || op.kind == OpKind::kFilter) && op.out_channels > 4 &&
           op.taps * op.in_channels >= kLeastStagedTerms;
  }

  // Whether most of the work is in convolutions that can be staged.
  bool has_staged() const {
    if (header_.is_recurrent != 0) return false;
    std::int64_t all = 0, staged = 0;
    for (const Op& op : program_.ops) {
      const std::int64_t work = std::int64_t{op.taps} * op.in_channels * op.out_channels;
      all += work, staged += is_staged(op) ? work : 0;
    }
    return 2 * staged > all;
  }

  bool try_fit(const Choice& choice, const std::vector<bool>& from_ring) {
    const int block = choice.block;
    steps_ = cuda_steps(program_, from_ring, choice.stack_times);
    stack_times_ = choice.stack_times, is_staged_ = choice.staged;
    state_floats_ = cuda::kStatePrefix;
    for (const CudaCells& cells : cells_) state_floats_ += cells.floats();
    const int stride = header_.is_recurrent != 0 ? block + kRecurrentMargin : block;
    const std::int64_t slots = (place_spans(program_, steps_, stride, state_floats_) + 3) / 4 * 4;
    std::int64_t scratch = 0;
    if (is_mixed(program_)) scratch = std::int64_t{2} * header_.team_streams * block;
    for (const Op& op : program_.ops) {
      if (op.kind == OpKind::kRecurrent) scratch = std::max(scratch, scratch_of(op));
    }
    scratch = (scratch + 3) / 4 * 4;
    // The weights of a layer and of the next one.
    for (const LayerStack& stack : steps_.stacks) {
      scratch = std::max(scratch, 2 * weight_place(stack));
    }
    if (choice.staged) {
      for (const Op& op : program_.ops) {
        const int panels = (op.out_channels + cuda::kStagedOuts - 1) / cuda::kStagedOuts;
        if (!is_staged(op)) continue;
        const int terms = op.taps * op.in_channels;
        const int held = terms > cuda::kRun ? 2 * cuda::kRun : terms;
        scratch = std::max(scratch, std::int64_t{panels} * held * cuda::kStagedOuts);
      }
    }
    const std::int64_t weights = choice.shared ? packed_floats(choice) : 0;
    const std::int64_t total = weights + scratch + slots * header_.team_streams;
    if (total * static_cast<std::int64_t>(sizeof(float)) > most_bytes_) return false;
    if (state_floats_ > INT32_MAX) return false;
    header_.block_samples = static_cast<std::uint32_t>(block);
    header_.shared_weights = static_cast<std::uint32_t>(weights);
    header_.slots_at = static_cast<std::uint32_t>(weights + scratch);
    header_.slot_floats = static_cast<std::uint32_t>(slots);
    header_.shared_floats = static_cast<std::uint32_t>(total);
    return true;
  }

  std::int64_t layer_floats(const LayerStack& stack, const StackLayer& layer) const {
    const Op& conv = program_.ops[layer.conv];
    const Op& mixin = program_.ops[layer.mixin];
    const std::int64_t channels = stack_kernel_channels(stack.channels, stack_times_);
    const std::int64_t rows = std::int64_t{conv.taps} * conv.in_channels + mixin.in_channels + 2 +
                              (layer.residual != 0 ? channels + 1 : 0);
    return (rows * channels + 3) / 4 * 4;
  }

  std::int64_t weight_place(const LayerStack& stack) const {
    std::int64_t most = 0;
    for (const StackLayer& layer : stack.layers) most = std::max(most, layer_floats(stack, layer));
    return most;
  }

  bool move_largest_to_ring(std::vector<bool>& from_ring) const {
    std::int64_t largest = 0;
    std::size_t found = 0;
    for (const Op& op : program_.ops) {
      const std::int64_t size = op.taps > 1 && !from_ring[op.a.line]
                                    ? op.history_samples() * program_.line_channels[op.a.line]
                                    : 0;
      if (size > largest) largest = size, found = op.a.line;
    }
    if (largest > 0) from_ring[found] = true;
    return largest > 0;
  }

  // The output channels of a tile and the times of a thread: the largest tile that still gives
  // every warp one.
  std::pair<int, int> tile_of(const Op& op) const {
    if (op.out_channels == 1 && (stack_times_ > 0 || is_staged_)) return {1, 2};
    if (op.out_channels == 1 || header_.threads > cuda::kConvThreads) return {1, 1};
    if (is_staged_ && is_staged(op)) {
      const int panels = (op.out_channels + cuda::kStagedOuts - 1) / cuda::kStagedOuts;
      const int items = panels * static_cast<int>(header_.block_samples) / (8 * cuda::kWarp);
      return {cuda::kStagedOuts, items * cuda::kWarp >= cuda::kConvThreads ? 8 : 4};
    }
    if (header_.register_rows >= 0 || header_.register_rows == cuda::kMixed) return {4, 2};
    if (is_staged_) return {4, 2};
    if (stack_times_ > 0) return op.out_channels > 4 ? std::pair{8, 4} : std::pair{4, 2};
    const int warps = static_cast<int>(header_.threads) / cuda::kWarp;
    const int block = static_cast<int>(header_.block_samples);
    for (const auto& [outs, times] : {std::pair{8, 4}, std::pair{8, 2}}) {
      const int panels = (op.out_channels + outs - 1) / outs;
      const int tiles = (block + cuda::kWarp * times - 1) / (cuda::kWarp * times);
      if (op.out_channels > outs / 2 && block >= cuda::kWarp * times && panels * tiles >= warps) {
        return {outs, times};
      }
    }
    return {4, 2};
  }

  // As many as any choice of tiles packs, without those that are staged.
  std::int64_t packed_floats(const Choice& choice) const {
    std::vector<bool> is_layer(program_.ops.size(), false);
    for (const LayerStack& stack : steps_.stacks) {
      std::fill(is_layer.begin() + static_cast<std::ptrdiff_t>(stack.first),
                is_layer.begin() + static_cast<std::ptrdiff_t>(stack.end), true);
    }
    std::int64_t total = 0;
    for (std::size_t i = 0; i < program_.ops.size(); ++i) {
      const Op& op = program_.ops[i];
      if (is_layer[i]) continue;
      if (choice.staged && is_staged(op)) {
        // Its bias and what its activation takes stand with the others.
        total += op.out_channels + static_cast<std::int64_t>(op.params.size()) + 8;
        continue;
      }
      const std::int64_t outs = op.out_channels == 1 ? 1 : (op.out_channels + 7) / 8 * 8;
      const std::int64_t inputs = op.kind == OpKind::kRecurrent
                                      ? (op.in_channels + op.out_channels) * std::int64_t{4}
                                      : std::int64_t{op.in_channels} * op.taps;
      total += outs * (inputs + 4) + static_cast<std::int64_t>(op.params.size()) + 16;
      if (op.kind == OpKind::kDelay) total += kMostDelayCells;
    }
    return (total + 3) / 4 * 4;
  }

  static std::int32_t add_to(std::vector<float>& all, const std::vector<float>& values) {
    if (values.empty()) return -1;
    all.resize((all.size() + 3) / 4 * 4, 0.0f);
    const auto at = static_cast<std::int32_t>(all.size());
    all.insert(all.end(), values.begin(), values.end());
    return at;
  }

  std::int32_t add_floats(const std::vector<float>& values) { return add_to(floats_, values); }

  static std::vector<float> conv_weights(const Op& op, int outs) {
    const int panels = (op.out_channels + outs - 1) / outs;
    std::vector<float> packed;
    for (int p = 0; p < panels; ++p) {
      for (int k = 0; k < op.taps; ++k) {
        for (int i = 0; i < op.in_channels; ++i) {
          for (int o = p * outs; o < (p + 1) * outs; ++o) {
            const std::size_t at =
                (static_cast<std::size_t>(o) * static_cast<std::size_t>(op.in_channels) +
                 static_cast<std::size_t>(i)) *
                    static_cast<std::size_t>(op.taps) +
                static_cast<std::size_t>(k);
            packed.push_back(o < op.out_channels ? op.weight[at] : 0.0f);
          }
        }
      }
    }
    return packed;
  }

  // [row][unit][gate] from [row][gate][unit].
  static std::vector<float> gate_weights(const std::vector<float>& from, int rows, int units) {
    std::vector<float> packed;
    for (int k = 0; k < rows; ++k) {
      for (int u = 0; u < units; ++u) {
        for (int g = 0; g < 4; ++g) {
          packed.push_back(from[static_cast<std::size_t>((k * 4 + g) * units + u)]);
        }
      }
    }
    return packed;
  }

  cuda::Slot slot_of(const CudaOperand& operand) const {
    if (operand.span < 0) return {};
    const CudaSpan& span = steps_.spans[static_cast<std::size_t>(operand.span)];
    return {span.at + operand.channel * span.stride, span.stride};
  }

  void set_ring(CudaOp& out, const CudaOperand& operand) const {
    const CudaSpan& span = steps_.spans[static_cast<std::size_t>(operand.span)];
    out.history = static_cast<std::int32_t>(span.history);
    out.state = span.ring + operand.channel * out.history;
  }

  void add_ops() {
    const std::vector<bool> waits = barriers(steps_);
    std::int32_t cell = cuda::kStatePrefix;
    std::size_t endless = 0;
    for (std::size_t s = 0; s < steps_.steps.size(); ++s) {
      const CudaStep& step = steps_.steps[s];
      if (step.part == StackPart::kPlays || step.part == StackPart::kWrites) continue;
      CudaOp out{};
      out.kind = step.kind;
      out.barrier = waits[s] ? 1 : 0;
      out.a = slot_of(step.a), out.b = slot_of(step.b), out.c = slot_of(step.c);
      out.output = slot_of(step.output);
      out.weights = out.bias = out.params = out.state = -1;
      out.activation = static_cast<std::int32_t>(step.activation);
      if (step.op != nullptr) set_op(out, step);
      if (step.op != nullptr && has_endless_memory(step.op->kind)) {
        const CudaCells& cells = cells_[endless++];
        out.state = cell;
        cell += static_cast<std::int32_t>(cells.floats());
        out.cells = add_floats(cells.first);
        out.cell_floats = static_cast<std::int32_t>(cells.first.size());
        out.scratch = static_cast<std::int32_t>(header_.shared_weights);
        if (cells.ring > 0) out.history = static_cast<std::int32_t>(cells.ring);
      } else if (step.kind == CudaOpKind::kFetch) {
        set_ring(out, step.output);
        out.out_channels = steps_.spans[static_cast<std::size_t>(step.output.span)].channels;
      } else if (step.kind == CudaOpKind::kInput) {
        out.out_channels = program_.line_channels[0];
      } else if (step.kind == CudaOpKind::kStore) {
        set_ring(out, step.a);
        out.out_channels = steps_.spans[static_cast<std::size_t>(step.a.span)].channels;
      } else if (step.kind == CudaOpKind::kStack) {
        set_stack(out, s);
      }
      ops_.push_back(out);
    }
  }

  void set_op(CudaOp& out, const CudaStep& step) {
    const Op& op = *step.op;
    out.combine = static_cast<std::int32_t>(op.combine);
    out.cell = static_cast<std::int32_t>(op.cell);
    out.in_channels = op.in_channels, out.out_channels = op.out_channels;
    out.taps = op.taps, out.dilation = op.dilation;
    if (step.kind == CudaOpKind::kConv) {
      std::tie(out.outs, out.steps) = tile_of(op);
      const std::vector<float> weights = conv_weights(op, out.outs);
      out.weights =
          is_staged_ && is_staged(op) ? add_to(staged_floats_, weights) : add_floats(weights);
      out.bias = add_floats(op.bias);
      if (step.activation == op.activation) out.params = add_floats(op.params);
      out.scratch = static_cast<std::int32_t>(header_.shared_weights);
      const CudaSpan& span = steps_.spans[static_cast<std::size_t>(step.a.span)];
      if (op.taps > 1 && span.from_ring) set_ring(out, step.a);
    } else if (step.kind == CudaOpKind::kRecurrent) {
      const int rows = op.in_channels + op.out_channels;
      out.weights = add_floats(gate_weights(op.weight, rows, op.out_channels));
      out.bias = add_floats(gate_weights(op.bias, 1, op.out_channels));
      out.steps = shape_of(op);
      out.scratch = static_cast<std::int32_t>(header_.shared_weights);
    } else {
      out.params = add_floats(step.kind == CudaOpKind::kDelay ? cuda_delay_numbers(op) : op.params);
    }
  }

  // The three steps of a stack begin at `first`.
  void set_stack(CudaOp& out, std::size_t first) {
    const CudaStep& plays = part_of(first, StackPart::kPlays);
    const CudaStep& writes = part_of(first, StackPart::kWrites);
    const LayerStack& stack = steps_.stacks[static_cast<std::size_t>(plays.stack)];
    const CudaSpan& buffer = steps_.spans[static_cast<std::size_t>(plays.output.span)];
    out.output = slot_of(writes.output), out.c = slot_of(writes.next_head);
    out.out_channels = stack.channels;
    out.outs = buffer.channels;
    out.scratch = static_cast<std::int32_t>(header_.shared_weights);
    out.first_layer = static_cast<std::int32_t>(layers_.size());
    out.layer_count = static_cast<std::int32_t>(stack.layers.size());
    out.buffer_at = buffer.at, out.buffer_stride = buffer.stride;
    out.weight_place = static_cast<std::int32_t>(weight_place(stack));
    for (std::size_t l = 0; l < stack.layers.size(); ++l) add_layer(plays, stack, l);
  }

  const CudaStep& part_of(std::size_t first, StackPart part) const {
    std::size_t s = first;
    while (steps_.steps[s].part != part) ++s;
    return steps_.steps[s];
  }

  void add_layer(const CudaStep& plays, const LayerStack& stack, std::size_t index) {
    const StackLayer& layer = stack.layers[index];
    const Op& conv = program_.ops[layer.conv];
    const Op& mixin = program_.ops[layer.mixin];
    cuda::CudaLayer out{};
    out.source = slot_of(layer.reads_x ? plays.output : plays.source);
    out.condition = slot_of(plays.conditions[index]);
    out.in_channels = conv.in_channels;
    out.taps = conv.taps, out.dilation = conv.dilation;
    out.condition_channels = mixin.in_channels;
    out.activation = static_cast<std::int32_t>(mixin.activation);
    out.head = layer.head;
    out.residual = layer.residual != 0 ? 1 : 0;
    out.floats = static_cast<std::int32_t>(layer_floats(stack, layer));
    out.weights = add_to(staged_floats_, layer_weights(stack, layer));
    out.state = layer.ring;
    out.history = static_cast<std::int32_t>(ring_samples(program_, layer));
    layers_.push_back(out);
  }

  // As CudaLayer has them.
  std::vector<float> layer_weights(const LayerStack& stack, const StackLayer& layer) const {
    const Op& conv = program_.ops[layer.conv];
    const Op& mixin = program_.ops[layer.mixin];
    const int channels = stack_kernel_channels(stack.channels, stack_times_);
    std::vector<float> packed = conv_weights(conv, channels);
    const auto add = [&](const std::vector<float>& values) {
      packed.insert(packed.end(), values.begin(), values.end());
    };
    const auto row = [&](auto value_of) {
      for (int c = 0; c < channels; ++c) packed.push_back(c < stack.channels ? value_of(c) : 0.0f);
    };
    const auto bias_of = [](const Op& op, int c) {
      return op.bias.empty() ? 0.0f : op.bias[static_cast<std::size_t>(c)];
    };
    add(conv_weights(mixin, channels));
    row([&](int c) { return bias_of(conv, c) + bias_of(mixin, c); });
    if (layer.residual != 0) {
      const Op& residual = program_.ops[layer.residual];
      add(conv_weights(residual, channels));
      packed.resize(
          packed.size() + static_cast<std::size_t>((channels - stack.channels) * channels), 0.0f);
      row([&](int c) { return bias_of(residual, c); });
    }
    row([&](int c) {
      if (mixin.activation == Activation::kPrelu) return mixin.params[static_cast<std::size_t>(c)];
      return mixin.activation == Activation::kNone ? 1.0f : 0.0f;
    });
    packed.resize(static_cast<std::size_t>(layer_floats(stack, layer)), 0.0f);
    return packed;
  }

  AlignedBuffer bytes() {
    floats_.resize((floats_.size() + 3) / 4 * 4, 0.0f);
    if (header_.shared_weights > 0) {
      if (floats_.size() > header_.shared_weights) {
        throw ModelError("model: expected " + std::to_string(header_.shared_weights) +
                         " floats in shared memory, got " + std::to_string(floats_.size()));
      }
      header_.shared_weights = static_cast<std::uint32_t>(floats_.size());
    }
    add_staged_floats();
    std::memcpy(header_.magic, "fxfcuda", 8);
    header_.version = cuda::kVersion;
    header_.op_count = static_cast<std::uint32_t>(ops_.size());
    header_.layer_count = layers_.size();
    header_.state_floats = static_cast<std::uint32_t>((state_floats_ + 3) / 4 * 4);
    header_.floats = floats_.size();
    if (header_.is_recurrent != 0) header_.reach = histories();
    const std::size_t ops_bytes = ops_.size() * sizeof(CudaOp);
    const std::size_t layers_bytes = layers_.size() * sizeof(cuda::CudaLayer);
    const std::size_t floats_begin = cuda::floats_at(header_);
    header_.plan_bytes = floats_begin + floats_.size() * sizeof(float);
    AlignedBuffer out(header_.plan_bytes);
    std::memcpy(out.data(), &header_, sizeof(header_));
    std::memcpy(out.data() + sizeof(header_), ops_.data(), ops_bytes);
    std::memcpy(out.data() + sizeof(header_) + ops_bytes, layers_.data(), layers_bytes);
    std::memcpy(out.data() + floats_begin, floats_.data(), floats_.size() * sizeof(float));
    return out;
  }

  // Behind the others: they are never in shared memory as a whole.
  void add_staged_floats() {
    const auto begin = static_cast<std::int32_t>(floats_.size());
    for (cuda::CudaLayer& layer : layers_) layer.weights += begin;
    for (CudaOp& op : ops_) {
      const bool is_conv = op.kind == CudaOpKind::kConv;
      if (is_conv && is_staged_ && op.outs == cuda::kStagedOuts) op.weights += begin;
    }
    floats_.insert(floats_.end(), staged_floats_.begin(), staged_floats_.end());
  }

  std::uint64_t histories() const {
    return std::accumulate(steps_.spans.begin(), steps_.spans.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const CudaSpan& span) {
                             return sum + static_cast<std::uint64_t>(span.history);
                           });
  }

  const Program& program_;
  CudaLimits limits_;
  int most_bytes_ = 0;
  CudaHeader header_{};
  CudaSteps steps_;
  std::vector<CudaCells> cells_;
  std::vector<CudaOp> ops_;
  std::vector<cuda::CudaLayer> layers_;
  std::vector<float> floats_, staged_floats_;
  int stack_times_ = 0;
  bool is_staged_ = false;
  std::int64_t state_floats_ = 0;
};

}  // namespace

std::vector<float> cuda_cells(const Program& program, const KernelTable& kernels,
                              const std::vector<float>& knobs) {
  const AlignedBuffer bytes = pack_plan(program);
  const PlanView view(bytes.data(), bytes.size());
  std::vector<float> all;
  for (const CudaCells& cells :
       settled_cells(view, kernels, knobs.empty() ? nullptr : knobs.data())) {
    all.insert(all.end(), cells.first.begin(), cells.first.end());
    all.resize(all.size() + static_cast<std::size_t>(cells.ring), 0.0f);
  }
  return all;
}

AlignedBuffer pack_cuda_plan(const Program& program, const KernelTable& kernels,
                             const CudaLimits& limits) {
  validate(program);
  return Packer(program, kernels, limits).pack();
}

}  // namespace fxfast
