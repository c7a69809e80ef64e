#include "engine/cuda_plan.h"

#include <cstring>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/cuda_cells.h"
#include "engine/cuda_fit.h"
#include "engine/cuda_tail.h"
#include "engine/cuda_weights.h"
#include "engine/packed_plan.h"

namespace fxfast {
namespace {

using cuda::CudaHeader;
using cuda::CudaOp;
using cuda::CudaOpKind;

class Packer {
 public:
  // `program` with_heads, as `fit` has it.
  Packer(const Program& program, const std::vector<CudaCells>& cells, CudaFit fit)
      : program_(program), cells_(cells), fit_(std::move(fit)), header_(fit_.header) {}

  AlignedBuffer pack(const PlanView& view) {
    header_.multiply_adds = static_cast<std::uint64_t>(view.multiply_adds_per_sample());
    // Operations with an endless memory have no reach, but streams begin with every ring heard.
    header_.reach =
        cells_.empty() ? static_cast<std::uint64_t>(view.receptive_field() - 1) : histories();
    add_ops();
    return bytes();
  }

 private:
  static std::int32_t add_to(std::vector<float>& all, const std::vector<float>& values) {
    if (values.empty()) return -1;
    all.resize((all.size() + 3) / 4 * 4, 0.0f);
    const auto at = static_cast<std::int32_t>(all.size());
    all.insert(all.end(), values.begin(), values.end());
    return at;
  }

  std::int32_t add_floats(const std::vector<float>& values) { return add_to(floats_, values); }

  cuda::Slot slot_of(const CudaOperand& operand) const {
    if (operand.span < 0) return {};
    const CudaSpan& span = fit_.steps.spans[static_cast<std::size_t>(operand.span)];
    return {span.at + operand.channel * span.stride, span.stride};
  }

  void set_ring(CudaOp& out, const CudaOperand& operand) const {
    const CudaSpan& span = fit_.steps.spans[static_cast<std::size_t>(operand.span)];
    out.history = static_cast<std::int32_t>(span.history);
    out.state = span.ring + operand.channel * out.history;
  }

  void add_ops() {
    const std::vector<bool> waits = barriers(fit_.steps);
    std::int32_t cell = cuda::kStatePrefix;
    std::size_t endless = 0;
    for (std::size_t s = 0; s < fit_.steps.steps.size(); ++s) {
      const CudaStep& step = fit_.steps.steps[s];
      if (step.part == StackPart::kPlays || step.part == StackPart::kWrites) continue;
      CudaOp out{};
      out.kind = step.kind;
      out.barrier = waits[s] ? 1 : 0;
      out.a = slot_of(step.a), out.b = slot_of(step.b), out.c = slot_of(step.c);
      out.output = slot_of(step.output);
      out.weights = out.bias = out.params = out.state = -1;
      out.activation = static_cast<std::int32_t>(step.activation);
      if (step.op != nullptr) set_op(out, step);
      const bool is_tail = step.kind == CudaOpKind::kTail;
      if (step.op != nullptr && (is_tail || has_endless_memory(step.op->kind))) {
        const CudaCells& cells = cells_[endless++];
        out.state = cell;
        cell += static_cast<std::int32_t>(cells.floats());
        out.cells = add_floats(cells.first);
        out.cell_floats = static_cast<std::int32_t>(cells.first.size());
        out.scratch = static_cast<std::int32_t>(header_.shared_weights);
        if (step.kind == CudaOpKind::kDelay) out.history = static_cast<std::int32_t>(cells.ring);
      } else if (step.kind == CudaOpKind::kFetch) {
        set_ring(out, step.output);
        out.out_channels = fit_.steps.spans[static_cast<std::size_t>(step.output.span)].channels;
      } else if (step.kind == CudaOpKind::kInput) {
        out.out_channels = program_.line_channels[0];
      } else if (step.kind == CudaOpKind::kStore) {
        set_ring(out, step.a);
        out.out_channels = fit_.steps.spans[static_cast<std::size_t>(step.a.span)].channels;
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
      std::tie(out.outs, out.steps) = fit_.tile_of(op);
      const std::vector<float> weights = panel_weights(op, out.outs);
      out.weights = fit_.is_staged(op) ? add_to(staged_floats_, weights) : add_floats(weights);
      out.bias = add_floats(op.bias);
      if (step.activation == op.activation) out.params = add_floats(op.params);
      out.scratch = static_cast<std::int32_t>(header_.shared_weights);
      const CudaSpan& span = fit_.steps.spans[static_cast<std::size_t>(step.a.span)];
      if (op.taps > 1 && span.from_ring) set_ring(out, step.a);
    } else if (step.kind == CudaOpKind::kRecurrent) {
      const int rows = op.in_channels + op.out_channels;
      out.weights = add_floats(gate_weights(op.weight, rows, op.out_channels));
      out.bias = add_floats(gate_weights(op.bias, 1, op.out_channels));
      out.steps = fit_.shape_of(op);
      out.scratch = static_cast<std::int32_t>(header_.shared_weights);
    } else if (step.kind == CudaOpKind::kTail) {
      out.weights = add_floats(tail_responses(op));
      out.params = add_floats(tail_twiddles());
      out.history = static_cast<std::int32_t>(tail_partitions(op.taps));
    } else {
      out.params = add_floats(step.kind == CudaOpKind::kDelay ? cuda_delay_numbers(op) : op.params);
    }
  }

  // The three steps of a stack begin at `first`.
  void set_stack(CudaOp& out, std::size_t first) {
    const CudaStep& plays = part_of(first, StackPart::kPlays);
    const CudaStep& writes = part_of(first, StackPart::kWrites);
    const LayerStack& stack = fit_.steps.stacks[static_cast<std::size_t>(plays.stack)];
    const CudaSpan& buffer = fit_.steps.spans[static_cast<std::size_t>(plays.output.span)];
    out.output = slot_of(writes.output), out.c = slot_of(writes.next_head);
    out.out_channels = stack.channels;
    out.outs = buffer.channels;
    out.scratch = static_cast<std::int32_t>(header_.shared_weights);
    out.first_layer = static_cast<std::int32_t>(layers_.size());
    out.layer_count = static_cast<std::int32_t>(stack.layers.size());
    out.buffer_at = buffer.at, out.buffer_stride = buffer.stride;
    out.weight_place = static_cast<std::int32_t>(weight_place(program_, stack, fit_.stack_times));
    for (std::size_t l = 0; l < stack.layers.size(); ++l) add_layer(plays, stack, l);
  }

  const CudaStep& part_of(std::size_t first, StackPart part) const {
    std::size_t s = first;
    while (fit_.steps.steps[s].part != part) ++s;
    return fit_.steps.steps[s];
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
    out.floats = static_cast<std::int32_t>(layer_floats(program_, stack, layer, fit_.stack_times));
    out.weights = add_to(staged_floats_, layer_weights(program_, stack, layer, fit_.stack_times));
    out.state = layer.ring;
    out.history = static_cast<std::int32_t>(ring_samples(program_, layer));
    layers_.push_back(out);
  }

  AlignedBuffer bytes() {
    floats_.resize((floats_.size() + 3) / 4 * 4, 0.0f);
    if (header_.shared_weights > 0) {
      if (floats_.size() > header_.shared_weights) {
        throw ModelError("shared weights: expected at most " +
                         std::to_string(header_.shared_weights) + " floats, got " +
                         std::to_string(floats_.size()));
      }
      header_.shared_weights = static_cast<std::uint32_t>(floats_.size());
    }
    add_staged_floats();
    std::memcpy(header_.magic, "fxfcuda", 8);
    header_.version = cuda::kVersion;
    header_.op_count = static_cast<std::uint32_t>(ops_.size());
    header_.layer_count = layers_.size();
    header_.state_floats = static_cast<std::uint32_t>((fit_.state_floats + 3) / 4 * 4);
    header_.floats = floats_.size();
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
      if (is_conv && header_.register_rows == cuda::kStagedConvs && op.outs == cuda::kStagedOuts)
        op.weights += begin;
    }
    floats_.insert(floats_.end(), staged_floats_.begin(), staged_floats_.end());
  }

  std::uint64_t histories() const {
    std::uint64_t tails = 0;
    for (const Op& op : program_.ops) {
      if (has_tail(op)) tails += static_cast<std::uint64_t>(op.taps);
    }
    return std::accumulate(fit_.steps.spans.begin(), fit_.steps.spans.end(), tails,
                           [](std::uint64_t sum, const CudaSpan& span) {
                             return sum + static_cast<std::uint64_t>(span.history);
                           });
  }

  const Program& program_;
  const std::vector<CudaCells>& cells_;
  CudaFit fit_;
  CudaHeader header_;
  std::vector<CudaOp> ops_;
  std::vector<cuda::CudaLayer> layers_;
  std::vector<float> floats_, staged_floats_;
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
  const AlignedBuffer bytes = pack_plan(program);
  const PlanView view(bytes.data(), bytes.size());
  const std::vector<CudaCells> cells = settled_cells(view, kernels);
  const Program split = with_heads(program);
  return Packer(split, cells, CudaFit(split, cells, limits.shared_bytes, limits.major)).pack(view);
}

}  // namespace fxfast
