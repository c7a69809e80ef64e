#include "engine/cuda_stack.h"

#include <algorithm>

namespace fxfast {
namespace {

using cuda::HeadOf;

constexpr int kMostProducts = 128;

bool is_add(const Op& op) { return op.kind == OpKind::kCombine && op.combine == Combine::kAdd; }

// Whether the operation writes a whole line and reads lines from their first channels on.
bool is_whole(const Program& program, const Op& op) {
  const auto begins = [](const Operand& operand) {
    return operand.line == kNoLine || operand.first == 0;
  };
  return begins(op.a) && begins(op.b) && op.output.first == 0 &&
         op.out_channels == program.line_channels[op.output.line];
}

bool is_conv(const Program& program, const Op& op) {
  return op.kind == OpKind::kConv && is_whole(program, op) && op.b.line == kNoLine &&
         op.activation == Activation::kNone && op.out_channels <= kMostStackChannels &&
         op.in_channels <= kMostStackChannels && op.taps * op.in_channels <= kMostProducts;
}

bool is_mixin(const Program& program, const Op& op, const Op& conv) {
  const bool is_known = op.activation == Activation::kNone || op.activation == Activation::kTanh ||
                        op.activation == Activation::kRelu || op.activation == Activation::kPrelu;
  return op.kind == OpKind::kConv && is_whole(program, op) && is_known && op.taps == 1 &&
         op.in_channels <= kMostStackChannels && op.out_channels == conv.out_channels &&
         op.b.line == conv.output.line && op.a.line != conv.output.line;
}

bool is_residual(const Program& program, const Op& op, std::uint32_t z, int channels) {
  return op.kind == OpKind::kConv && is_whole(program, op) && op.taps == 1 &&
         op.activation == Activation::kNone && op.in_channels == channels &&
         op.out_channels == channels && op.a.line == z && op.b.line != kNoLine && op.b.line != z;
}

// Whether nobody reads `line` from operation `first` on before it is written whole.
bool is_dead(const Program& program, std::uint32_t line, std::size_t first) {
  for (std::size_t i = first; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.a.line == line || op.b.line == line || op.c.line == line) return false;
    if (op.output.line == line && is_whole(program, op)) return true;
  }
  return line != program.output_line;
}

class Matcher {
 public:
  Matcher(const Program& program, std::size_t first) : program_(program) {
    stack_.first = stack_.end = first;
    while (stack_.end < program.ops.size() && add_layer()) {
    }
  }

  // The longest stack that leaves nothing unwritten that is read; without layers where none is.
  LayerStack found() {
    while (!stack_.layers.empty() && !is_closed()) drop_last();
    if (stack_.layers.empty()) return {};
    StackLayer& last = stack_.layers.back();
    if (last.residual != 0) stack_.next_x = program_.ops[last.residual].output.line;
    if (stack_.next_x != kNoLine && is_dead(program_, stack_.next_x, stack_.end)) {
      stack_.next_x = kNoLine, last.residual = 0;
    }
    stack_.next_head = heads_.back();
    if (stack_.next_head != kNoLine && is_dead(program_, stack_.next_head, stack_.end)) {
      stack_.next_head = kNoLine;
    }
    return stack_;
  }

 private:
  const Op* op(std::size_t index) const {
    return index < program_.ops.size() ? &program_.ops[index] : nullptr;
  }

  bool add_layer() {
    StackLayer layer;
    std::size_t next = stack_.end;
    layer.conv = next++;
    const Op& conv = program_.ops[layer.conv];
    if (!is_conv(program_, conv)) return false;
    if (op(next) == nullptr || !is_mixin(program_, *op(next), conv)) return false;
    layer.mixin = next++;
    const Op& mixin = program_.ops[layer.mixin];
    const std::uint32_t z = mixin.output.line;
    const int channels = conv.out_channels;
    if (op(next) != nullptr && is_add(*op(next)) && is_whole(program_, *op(next)) &&
        (op(next)->a.line == z) != (op(next)->b.line == z)) {
      layer.sum = next++;
    }
    if (op(next) != nullptr && is_residual(program_, *op(next), z, channels)) {
      layer.residual = next++;
    }
    if (!fits(layer) || !set_head(layer, z)) return false;
    stack_.layers.push_back(layer);
    stack_.end = next;
    ends_.push_back(next);
    // A condition must be what it was before the stack.
    conditions_.push_back(mixin.a.line);
    return layer.residual != 0;
  }

  // Whether the layer goes on with the x of the one before, or begins with one.
  bool fits(StackLayer& layer) {
    const Op& conv = program_.ops[layer.conv];
    const bool has_residual = layer.residual != 0;
    if (stack_.layers.empty()) {
      stack_.channels = conv.out_channels;
      stack_.x = has_residual ? program_.ops[layer.residual].b.line : conv.a.line;
      layer.reads_x = stack_.x == conv.a.line;
      return program_.line_channels[stack_.x] == stack_.channels &&
             (!layer.reads_x || conv.in_channels == stack_.channels);
    }
    const std::uint32_t x = program_.ops[stack_.layers.back().residual].output.line;
    return conv.a.line == x && conv.in_channels == stack_.channels &&
           conv.out_channels == stack_.channels &&
           (!has_residual || program_.ops[layer.residual].b.line == x);
  }

  bool set_head(StackLayer& layer, std::uint32_t z) {
    const bool begins = stack_.layers.empty();
    if (layer.sum == 0) {
      // Only a first layer's z can be the head itself.
      if (!begins) return false;
      layer.head = HeadOf::kBegins;
      heads_.push_back(z);
      return true;
    }
    const Op& sum = program_.ops[layer.sum];
    const std::uint32_t before = sum.a.line == z ? sum.b.line : sum.a.line;
    if (begins) {
      stack_.head = before;
    } else if (heads_.back() != before) {
      return false;
    }
    layer.head = HeadOf::kAdds;
    heads_.push_back(sum.output.line);
    return true;
  }

  // Whether what the stack leaves unwritten is dead, and what it reads was not written by it.
  bool is_closed() const {
    const StackLayer& last = stack_.layers.back();
    const std::uint32_t x = last.residual != 0 ? program_.ops[last.residual].output.line : kNoLine;
    for (std::size_t i = stack_.first; i < stack_.end; ++i) {
      const std::uint32_t line = program_.ops[i].output.line;
      if (std::find(conditions_.begin(), conditions_.end(), line) != conditions_.end())
        return false;
      if (line != x && line != heads_.back() && !is_dead(program_, line, stack_.end)) return false;
    }
    return x != heads_.back();
  }

  void drop_last() {
    stack_.layers.pop_back(), heads_.pop_back(), ends_.pop_back(), conditions_.pop_back();
    if (!ends_.empty()) stack_.end = ends_.back();
  }

  const Program& program_;
  LayerStack stack_;
  std::vector<std::uint32_t> heads_, conditions_;  // after each layer; of each layer
  std::vector<std::size_t> ends_;
};

}  // namespace

std::vector<LayerStack> layer_stacks(const Program& program) {
  std::vector<LayerStack> found;
  for (std::size_t i = 0; i < program.ops.size();) {
    LayerStack stack = Matcher(program, i).found();
    if (stack.layers.empty()) {
      ++i;
      continue;
    }
    i = stack.end;
    found.push_back(std::move(stack));
  }
  return found;
}

std::int64_t ring_samples(const Program& program, const StackLayer& layer) {
  return (program.ops[layer.conv].history_samples() + 3) / 4 * 4;
}

int stack_kernel_channels(int channels, int times) {
  if (times <= 4) return (channels + 3) / 4 * 4;
  return channels <= 2 ? 2 : channels <= 4 ? 4 : 8;
}

}  // namespace fxfast
