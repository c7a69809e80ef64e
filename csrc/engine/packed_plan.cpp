#include "engine/packed_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/delay.h"
#include "engine/filter.h"
#include "engine/lane_plan.h"
#include "engine/layer_groups.h"
#include "engine/level_gain.h"
#include "engine/op_sizes.h"
#include "engine/plan_layout.h"
#include "engine/time_grid.h"
#include "kernels/pack_spectra.h"
#include "kernels/pack_weights.h"

namespace fxfast {
namespace {

constexpr char kMagic[8] = "fxfplan";
constexpr std::uint32_t kPlanVersion = 7;
// A whole number of time tiles of every kernel (48, 64 and 96 samples), small enough that what a
// block touches of all lines, of all streams of a recurrent plan, stays in the second-level cache.
constexpr std::uint32_t kBlockSamples = 768, kRecurrentBlockSamples = 384;
constexpr std::uint32_t kMaxStretchSamples = 1u << 20;

void require(bool ok, const std::string& what) {
  if (!ok) throw ModelError("plan: expected a whole and consistent plan, got " + what);
}

std::uint64_t fingerprint_of(const std::byte* bytes, std::size_t size) {
  std::uint64_t hash = 0x9e3779b97f4a7c15ull ^ size;
  for (std::size_t i = 0; i < size; i += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, sizeof(word));
    hash = (hash ^ word) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
  }
  return hash;
}

void check_header(const PlanHeader& head) {
  require(std::memcmp(head.magic, kMagic, sizeof(kMagic)) == 0, "other bytes");
  require(head.version == kPlanVersion, "another format version");
  require(head.line_count >= 1 && head.line_count <= kMaxLines, "a bad line count");
  require(head.op_count >= 1 && head.op_count <= kMaxOps, "a bad operation count");
  require(head.output_line < head.line_count, "an output line beyond the lines");
  require(head.block_samples >= 1 && head.block_samples <= head.stretch_samples &&
              head.stretch_samples <= kMaxStretchSamples,
          "bad block sizes");
  require(head.receptive_field <= kMaxReceptiveField, "a receptive field beyond the limit");
  require(head.grid_samples >= 1 && head.grid_samples <= kMaxGridSamples, "a bad grid");
}

void check_line(const PlanLine& line) {
  require(line.channels >= 1 && line.channels <= kMaxChannels, "bad channels of a line");
  require(line.history < kMaxReceptiveField, "a history beyond the limit");
}

void check_op_sizes(const PlanOp& op) {
  require(op.kind < kOpKindCount && op.activation < kActivationCount &&
              op.combine < kCombineCount && op.cell < kCellCount,
          "an unknown operation");
  require(op.out_channels >= 1 && op.out_channels <= kMaxChannels, "bad output channels");
  const auto kind = static_cast<OpKind>(op.kind);
  if (kind == OpKind::kConv) return check_conv_sizes(op);
  if (kind == OpKind::kFilter) return check_filter_sizes(op);
  if (kind == OpKind::kDelay) return check_delay_sizes(op);
  require(op.taps == 1 && op.dilation == 1, "taps of another operation");
  require(op.transform == 0, "a transform of another operation");
  if (kind == OpKind::kLevelGain) return check_level_gain_sizes(op);
  if (kind != OpKind::kRecurrent) {
    return require(op.in_channels == 0, "input channels of another operation");
  }
  require(op.in_channels >= 1 && op.in_channels <= kMaxChannels, "bad input channels");
  require(op.activation == static_cast<std::uint32_t>(Activation::kNone),
          "an activation of another operation");
  const auto rows = std::int64_t{op.in_channels} + op.out_channels;
  require(rows * 4 * op.out_channels <= kMaxParameters, "more parameters than the limit");
}

// Whether an output sample reads more than its own place in the input.
bool reads_columns(OpKind kind) {
  return kind == OpKind::kConv || kind == OpKind::kRecurrent || kind == OpKind::kFilter ||
         kind == OpKind::kDelay;
}

// `line_of(i)` gives line i. An operand lies inside its line, and so does the history it reads.
template <typename LineOf>
void check_operands(const PlanOp& op, std::uint32_t line_count, const LineOf& line_of) {
  const auto check = [&](const Operand& operand, std::uint32_t channels, std::uint32_t history,
                         const char* name) {
    require(operand.line < line_count, std::string(name) + " beyond the lines");
    const PlanLine& line = line_of(operand.line);
    require(operand.first <= line.channels && channels <= line.channels - operand.first,
            std::string(name) + " beyond the channels of its line");
    require(history <= line.history, std::string(name) + " with more history than its line");
  };
  const auto absent = [&](const Operand& operand, const char* name) {
    require(operand.line == kNoLine && operand.first == 0, std::string(name) + " without use");
  };
  const auto kind = static_cast<OpKind>(op.kind);
  const bool is_conv = kind == OpKind::kConv;
  const bool mixes_channels = reads_columns(kind);
  require(!is_layout(kind) || op.a.line != op.output.line, "a layout changed in place");
  check(op.a, mixes_channels ? op.in_channels : op.out_channels, op.history_samples(), "operand a");
  check(op.output, op.out_channels, 0, "an output");
  // Rows of the input are read while others of the output are written already.
  require(!mixes_channels || op.a.line != op.output.line, "channels mixed in place");
  const bool has_b = is_conv ? op.b.line != kNoLine : kind == OpKind::kCombine;
  const bool has_c = kind == OpKind::kCombine && reads_c(static_cast<Combine>(op.combine));
  has_b ? check(op.b, op.out_channels, 0, "operand b") : absent(op.b, "operand b");
  has_c ? check(op.c, op.out_channels, 0, "operand c") : absent(op.c, "operand c");
}

PlanOp sizes_of(const Op& op) {
  const bool mixes_channels = reads_columns(op.kind);
  PlanOp out{};
  out.kind = static_cast<std::uint32_t>(op.kind);
  out.activation = static_cast<std::uint32_t>(op.activation);
  out.combine = static_cast<std::uint32_t>(op.combine);
  out.cell = static_cast<std::uint32_t>(op.cell);
  const bool has_ins = mixes_channels || op.kind == OpKind::kLevelGain;
  out.in_channels = has_ins ? static_cast<std::uint32_t>(op.in_channels) : 0;
  out.out_channels = static_cast<std::uint32_t>(op.out_channels);
  out.taps = static_cast<std::uint32_t>(op.taps);
  out.dilation = static_cast<std::uint32_t>(op.dilation);
  out.a = op.a;
  out.b = op.b;
  out.c = op.c;
  out.output = op.output;
  if (op.kind == OpKind::kDelay) {
    const DelaySizes sizes = check_delay(op.params.data(), op.params.size(), "params");
    out.in_channels = 1;
    out.taps = static_cast<std::uint32_t>(op.params.size());
    out.dilation = static_cast<std::uint32_t>(delay_ring_samples(sizes.longest));
  }
  return out;
}

void pack_conv_weights(const Op& op, const PlanOp& placed, float* weights) {
  const std::ptrdiff_t taps = op.taps;
  const WeightView view = {
      op.weight.data(), op.out_channels, op.in_channels, op.taps, op.in_channels * taps, taps, 1};
  placed.transform > 0 ? pack_spectra(view, weights) : pack_weights(view, weights);
}

void pack_op(const Op& op, const PlanOp& placed, std::byte* plan) {
  const auto floats = [&](std::uint64_t offset) { return reinterpret_cast<float*>(plan + offset); };
  if (op.kind == OpKind::kRecurrent) {
    pack_recurrent({op.weight.data(), op.bias.data(), op.in_channels, op.out_channels, op.cell},
                   floats(placed.weights_offset), floats(placed.bias_offset));
    pack_recurrent_state(op.cell, op.out_channels, op.params.data(), floats(placed.params_offset));
    return;
  }
  if (op.kind == OpKind::kConv) {
    pack_conv_weights(op, placed, floats(placed.weights_offset));
    std::copy(op.bias.begin(), op.bias.end(), floats(placed.bias_offset));
  }
  if (op.kind == OpKind::kFilter) {
    const auto pack = placed.step > 0 ? pack_offline_filter : pack_filter;
    pack(op.weight, floats(placed.weights_offset));
    std::copy(op.bias.begin(), op.bias.end(), floats(placed.bias_offset));
  }
  if (!op.params.empty()) {
    std::copy(op.params.begin(), op.params.end(), floats(placed.params_offset));
  }
  if (op.kind == OpKind::kDelay) {
    const DelaySizes sizes = check_delay(op.params.data(), op.params.size(), "params");
    floats(placed.params_offset)[kShortest] = static_cast<float>(sizes.shortest);
  }
}

}  // namespace

PlanView::PlanView(const std::byte* bytes, std::size_t size) : bytes_(bytes) {
  require(size >= sizeof(PlanHeader), "too few bytes");
  require(reinterpret_cast<std::uintptr_t>(bytes) % alignof(PlanHeader) == 0, "unaligned bytes");
  const PlanHeader& head = header();
  check_header(head);
  require(size >= sizeof(PlanHeader) + head.line_count * sizeof(PlanLine) +
                      head.op_count * sizeof(PlanOp),
          "too few bytes");
  PlanLayout layout(head);
  for (std::size_t i = 0; i < line_count(); ++i) {
    check_line(line(i));
    PlanLine expected = line(i);
    layout.place(expected);
    require(std::memcmp(&expected, &line(i), sizeof(PlanLine)) == 0, "lines that do not fit");
  }
  require(line(head.output_line).channels == 1, "more than one channel out");
  for (std::size_t i = 0; i < op_count(); ++i) {
    check_op_sizes(op(i));
    check_operands(op(i), head.line_count,
                   [this](std::uint32_t l) -> const PlanLine& { return line(l); });
    PlanOp expected = op(i);
    layout.place(expected);
    expected.layer = op(i).layer;
    require(std::memcmp(&expected, &op(i), sizeof(PlanOp)) == 0, "offsets that do not fit");
  }
  require(std::all_of(std::begin(head.reserved), std::end(head.reserved),
                      [](std::uint32_t word) { return word == 0; }),
          "words without use");
  check_groups(*this);
  check_lanes(*this);
  PlanHeader expected = head;
  layout.finish(expected);
  require(std::memcmp(&expected, &head, sizeof(PlanHeader)) == 0, "totals that do not fit");
  require(head.plan_bytes == size, "another number of bytes than it says");
  require(head.state_bytes <= kMaxStateBytes, "a state beyond the limit");
  check_delays(*this);
  for (std::size_t i = 0; i < op_count(); ++i) {
    const LayerGroup group = layer_group(&op(0), op_count(), &line(0), head.output_line, bytes, i);
    require(std::memcmp(&group, &op(i).layer, sizeof(group)) == 0, "layers that do not fit");
  }
}

std::int64_t PlanView::multiply_adds_per_sample() const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < op_count(); ++i) {
    const PlanOp& operation = op(i);
    const auto kind = static_cast<OpKind>(operation.kind);
    const std::int64_t ins = operation.in_channels, outs = operation.out_channels;
    if (kind == OpKind::kConv) total += ins * outs * operation.taps;
    if (kind == OpKind::kRecurrent) total += (ins + outs) * 4 * outs;
    if (kind == OpKind::kLevelGain) total += kGainMultiplyAdds;
    if (kind == OpKind::kFilter) total += FilterLayout(operation.taps).multiply_adds_per_sample();
    if (kind == OpKind::kDelay)
      total += check_delay(floats(operation.params_offset), operation.taps, "plan").multiply_adds;
  }
  return total;
}

AlignedBuffer pack_plan(const Program& program, const PlanOptions& options) {
  validate(program);
  std::vector<PlanOp> ops;
  for (const Op& op : program.ops) ops.push_back(sizes_of(op));
  choose_steps(options, ops);
  std::vector<PlanLine> lines = lines_of(program, ops);
  std::uint32_t longest = 0;
  for (const PlanLine& line : lines) longest = std::max(longest, line.history);
  PlanHeader header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kPlanVersion;
  header.line_count = static_cast<std::uint32_t>(lines.size());
  header.output_line = program.output_line;
  const bool is_recurrent = std::any_of(program.ops.begin(), program.ops.end(),
                                        [](const Op& op) { return has_endless_memory(op.kind); });
  header.block_samples = is_recurrent ? kRecurrentBlockSamples : kBlockSamples;
  // Longer stretches move the history back less often, shorter ones stay in cache.
  header.stretch_samples = static_cast<std::uint32_t>(
      round_up(std::clamp(longest, header.block_samples, kBlockSamples), header.block_samples));
  for (const PlanOp& op : ops) {
    check_operands(op, header.line_count,
                   [&](std::uint32_t l) -> const PlanLine& { return lines[l]; });
  }
  require(header.output_line < lines.size(), "an output line beyond the lines");
  require(lines[header.output_line].channels == 1, "more than one channel out");
  const std::int64_t field = receptive_field_of(program);
  if (field > kMaxReceptiveField) {
    throw ModelError("receptive field: expected at most " + std::to_string(kMaxReceptiveField) +
                     " samples, got " + std::to_string(field));
  }
  header.receptive_field = is_recurrent ? 0 : static_cast<std::uint64_t>(field);
  std::vector<const Op*> sources;
  for (const Op& op : program.ops) sources.push_back(&op);
  const bool lanes_fit = std::lcm(grid_of(ops), std::uint32_t{kLanePiece}) <= kMaxGridSamples;
  if (options.is_offline && options.steps.empty() && lanes_fit) {
    use_lanes({header.output_line, options.all_transforms}, ops, sources, lines);
    header.line_count = static_cast<std::uint32_t>(lines.size());
  }
  header.op_count = static_cast<std::uint32_t>(ops.size());
  header.grid_samples = grid_of(ops);
  header.alignment_samples = alignment_of(ops);
  header.reach = reach_of(header, lines, ops);
  assign_groups(header, ops, lines);

  PlanLayout layout(header);
  for (PlanLine& line : lines) layout.place(line);
  for (PlanOp& op : ops) layout.place(op);
  layout.finish(header);
  if (header.state_bytes > kMaxStateBytes) {
    throw ModelError("state of one stream: expected at most " + std::to_string(kMaxStateBytes) +
                     " bytes, got " + std::to_string(header.state_bytes));
  }

  AlignedBuffer plan(header.plan_bytes);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (sources[i] != nullptr) pack_op(*sources[i], ops[i], plan.data());
  }
  for (std::size_t i = 0; i < ops.size(); ++i) {
    ops[i].layer =
        layer_group(ops.data(), ops.size(), lines.data(), header.output_line, plan.data(), i);
  }
  std::byte* tables = plan.data() + sizeof(PlanHeader);
  std::memcpy(tables, lines.data(), lines.size() * sizeof(PlanLine));
  std::memcpy(tables + lines.size() * sizeof(PlanLine), ops.data(), ops.size() * sizeof(PlanOp));
  header.fingerprint =
      fingerprint_of(plan.data() + sizeof(PlanHeader), header.plan_bytes - sizeof(PlanHeader));
  std::memcpy(plan.data(), &header, sizeof(header));
  return plan;
}

}  // namespace fxfast
