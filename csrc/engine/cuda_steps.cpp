#include "engine/cuda_steps.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "engine/cuda_plan.h"
#include "engine/cuda_tail.h"

namespace fxfast {
namespace {

using cuda::CudaOpKind;

// The kernel's convolutions end in these activations; others are a step of their own.
bool ends_convolution(Activation activation) {
  return activation == Activation::kNone || activation == Activation::kRelu ||
         activation == Activation::kPrelu || activation == Activation::kTanh;
}

CudaOpKind kind_of(const Op& op, std::size_t index) {
  switch (op.kind) {
    case OpKind::kConv: return CudaOpKind::kConv;
    case OpKind::kActivate: return CudaOpKind::kActivate;
    case OpKind::kCombine: return CudaOpKind::kCombine;
    case OpKind::kRecurrent: return CudaOpKind::kRecurrent;
    case OpKind::kFilter: return has_tail(op) ? CudaOpKind::kTail : CudaOpKind::kConv;
    case OpKind::kDelay: return CudaOpKind::kDelay;
    case OpKind::kLevelGain: return CudaOpKind::kGain;
    default:
      throw ModelError("ops[" + std::to_string(index) + "].kind: expected an operation that CUDA " +
                       "kernels have, got " + std::to_string(static_cast<int>(op.kind)));
  }
}

CudaStep step_of(CudaOpKind kind, const Op* op = nullptr,
                 Activation activation = Activation::kNone) {
  CudaStep step;
  step.kind = kind, step.op = op, step.activation = activation;
  return step;
}

class Builder {
 public:
  Builder(const Program& program, const std::vector<bool>& from_ring, int stack_times)
      : program_(program),
        from_ring_(from_ring),
        stack_times_(stack_times),
        span_of_(program.line_channels.size(), -1) {
    if (stack_times > 0) steps_.stacks = layer_stacks(program);
    std::vector<bool> reads_buffer(program.ops.size(), false);
    for (const LayerStack& stack : steps_.stacks) {
      for (const StackLayer& layer : stack.layers) reads_buffer[layer.conv] = layer.reads_x;
    }
    histories_.assign(program.line_channels.size(), 0);
    for (std::size_t i = 0; i < program.ops.size(); ++i) {
      const Op& op = program.ops[i];
      if (op.taps > 1 && !reads_buffer[i] && !has_tail(op)) {
        std::int64_t& history = histories_[op.a.line];
        history = std::max(history, op.history_samples());
      }
    }
  }

  CudaSteps build() {
    write(step_of(CudaOpKind::kInput), {0, 0}, true);
    std::size_t stack = 0;
    for (std::size_t i = 0; i < program_.ops.size();) {
      if (stack < steps_.stacks.size() && steps_.stacks[stack].first == i) {
        add_stack(static_cast<int>(stack));
        i = steps_.stacks[stack++].end;
      } else {
        add(program_.ops[i], i);
        ++i;
      }
    }
    CudaStep output = step_of(CudaOpKind::kOutput);
    output.a = read({program_.output_line, 0});
    steps_.steps.push_back(output);
    store_rings();
    return std::move(steps_);
  }

 private:
  void add(const Op& op, std::size_t index) {
    CudaStep step = step_of(kind_of(op, index), &op, op.activation);
    step.a = read(op.a);
    if (op.b.line != kNoLine) step.b = read(op.b);
    if (op.c.line != kNoLine) step.c = read(op.c);
    const bool reads_output =
        op.a.line == op.output.line || op.b.line == op.output.line || op.c.line == op.output.line;
    const bool whole = !reads_output && !has_tail(op) && op.output.first == 0 &&
                       op.out_channels == program_.line_channels[op.output.line];
    const bool alone = step.kind == CudaOpKind::kConv && !ends_convolution(op.activation);
    if (alone) step.activation = Activation::kNone;
    write(step, op.output, whole);
    if (!alone) return;
    CudaStep activate = step_of(CudaOpKind::kActivate, &op, op.activation);
    activate.a = read(op.output);
    write(activate, op.output, false);
  }

  void add_stack(int index) {
    const LayerStack& stack = steps_.stacks[static_cast<std::size_t>(index)];
    CudaStep reads = step_of(CudaOpKind::kStack), plays = reads, writes = reads;
    reads.stack = plays.stack = writes.stack = index;
    reads.part = StackPart::kReads, plays.part = StackPart::kPlays;
    writes.part = StackPart::kWrites;
    reads.a = read({stack.x, 0});
    if (stack.head != kNoLine) reads.b = read({stack.head, 0});
    const Op& first = program_.ops[stack.layers.front().conv];
    if (!stack.layers.front().reads_x) plays.source = read({first.a.line, 0});
    CudaSpan buffer;
    buffer.channels = stack_kernel_channels(stack.channels, stack_times_);
    buffer.is_buffer = true;
    for (const StackLayer& layer : stack.layers) {
      plays.conditions.push_back(read({program_.ops[layer.mixin].a.line, 0}));
      if (!layer.reads_x) continue;
      buffer.history = std::max(buffer.history, ring_samples(program_, layer));
    }
    widen(reads.a, buffer.channels), widen(reads.b, buffer.channels);
    steps_.steps.push_back(reads);
    plays.output = {static_cast<int>(steps_.spans.size()), 0};
    steps_.spans.push_back(buffer);
    steps_.steps.push_back(plays);
    if (stack.next_x != kNoLine) writes.output = begin({stack.next_x, 0});
    if (stack.next_head != kNoLine) writes.next_head = begin({stack.next_head, 0});
    widen(writes.output, buffer.channels), widen(writes.next_head, buffer.channels);
    steps_.steps.push_back(writes);
  }

  // The kernel of a stack reads and writes all the rows that it has.
  void widen(const CudaOperand& operand, int channels) {
    if (operand.span < 0) return;
    CudaSpan& span = steps_.spans[static_cast<std::size_t>(operand.span)];
    span.channels = std::max(span.channels, channels);
  }

  CudaOperand read(Operand operand) {
    const int span = span_of_[operand.line];
    if (span < 0) {
      throw ModelError("lines[" + std::to_string(operand.line) +
                       "]: expected to be written before it is read");
    }
    return {span, static_cast<int>(operand.first)};
  }

  // `whole`: every channel is written and nothing of the line is read, so that a span begins.
  void write(CudaStep step, Operand operand, bool whole) {
    const int span = span_of_[operand.line];
    const bool begins = span < 0 || (whole && histories_[operand.line] == 0);
    step.output = begins ? begin(operand) : CudaOperand{span, static_cast<int>(operand.first)};
    steps_.steps.push_back(step);
  }

  // A span of a line, written by the next step.
  CudaOperand begin(Operand operand) {
    int& span = span_of_[operand.line];
    const std::int64_t history = histories_[operand.line];
    if (span < 0 || history == 0) {
      span = static_cast<int>(steps_.spans.size());
      CudaSpan fresh;
      fresh.line = static_cast<int>(operand.line);
      fresh.channels = program_.line_channels[operand.line];
      fresh.history = history;
      fresh.from_ring = from_ring_[operand.line];
      steps_.spans.push_back(fresh);
      if (history > 0 && !fresh.from_ring) {
        CudaStep fetch = step_of(CudaOpKind::kFetch);
        fetch.output = {span, 0};
        steps_.steps.push_back(fetch);
      }
    }
    return {span, static_cast<int>(operand.first)};
  }

  // A block goes into its ring when it is written and, where the ring is read, after that.
  void store_rings() {
    std::vector<CudaStep> all;
    for (std::size_t s = 0; s < steps_.steps.size(); ++s) {
      all.push_back(steps_.steps[s]);
      for (std::size_t n = 0; n < steps_.spans.size(); ++n) {
        const CudaSpan& span = steps_.spans[n];
        if (span.history == 0 || span.is_buffer) continue;
        if (s != last_use(static_cast<int>(n), span.from_ring)) continue;
        CudaStep store = step_of(CudaOpKind::kStore);
        store.a = {static_cast<int>(n), 0};
        all.push_back(store);
      }
    }
    steps_.steps = std::move(all);
    for (std::size_t n = 0; n < steps_.spans.size(); ++n) set_times(static_cast<int>(n));
  }

  static bool uses(const CudaStep& step, int span, bool reading) {
    if (step.output.span == span || step.next_head.span == span) return true;
    if (!reading) return false;
    for (const CudaOperand& condition : step.conditions) {
      if (condition.span == span) return true;
    }
    return step.a.span == span || step.b.span == span || step.c.span == span ||
           step.source.span == span;
  }

  std::size_t last_use(int span, bool reading) const {
    std::size_t last = 0;
    for (std::size_t s = 0; s < steps_.steps.size(); ++s) {
      if (uses(steps_.steps[s], span, reading)) last = s;
    }
    return last;
  }

  void set_times(int span) {
    CudaSpan& found = steps_.spans[static_cast<std::size_t>(span)];
    found.first = -1;
    for (std::size_t s = 0; s < steps_.steps.size(); ++s) {
      if (!uses(steps_.steps[s], span, true)) continue;
      if (found.first < 0) found.first = static_cast<int>(s);
      found.last = static_cast<int>(s);
    }
  }

  const Program& program_;
  const std::vector<bool>& from_ring_;
  int stack_times_;
  std::vector<int> span_of_;
  std::vector<std::int64_t> histories_;
  CudaSteps steps_;
};

// Floats from the start of the slots that a span takes: [begin, end).
struct Range {
  std::int64_t begin, end;
  bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
};

std::int64_t margin_of(const CudaSpan& span) {
  return span.from_ring
             ? 0
             : static_cast<std::int64_t>(round_up(static_cast<std::size_t>(span.history), 4));
}

Range range_of(const CudaSpan& span) {
  const std::int64_t begin = span.at - margin_of(span);
  return {begin, begin + std::int64_t{span.stride} * span.channels};
}

// What a step touches: a span's block, or its margin, which only fetches write.
struct Access {
  int span;
  bool margin, writes;
};

std::vector<Access> accesses_of(const CudaStep& step) {
  std::vector<Access> found;
  for (const CudaOperand& operand : {step.a, step.b, step.c}) {
    if (operand.span < 0) continue;
    found.push_back({operand.span, false, false});
    if (step.op != nullptr && step.op->taps > 1 && operand.span == step.a.span) {
      found.push_back({operand.span, true, false});
    }
  }
  for (const CudaOperand& condition : step.conditions) {
    found.push_back({condition.span, false, false});
  }
  if (step.source.span >= 0) {
    found.push_back({step.source.span, false, false});
    found.push_back({step.source.span, true, false});
  }
  if (step.output.span >= 0) {
    found.push_back({step.output.span, step.kind == CudaOpKind::kFetch, true});
    if (step.part == StackPart::kPlays) found.push_back({step.output.span, true, true});
  }
  if (step.next_head.span >= 0) found.push_back({step.next_head.span, false, true});
  return found;
}

bool conflict(const CudaSteps& all, const Access& before, const Access& now) {
  if (!before.writes && !now.writes) return false;
  if (before.span == now.span) return before.margin == now.margin;
  return range_of(all.spans[static_cast<std::size_t>(before.span)])
      .meets(range_of(all.spans[static_cast<std::size_t>(now.span)]));
}

}  // namespace

CudaSteps cuda_steps(const Program& program, const std::vector<bool>& from_ring, int stack_times) {
  return Builder(program, from_ring, stack_times).build();
}

std::int64_t place_spans(const Program& program, CudaSteps& steps, int block_samples,
                         std::int64_t& state_floats) {
  std::vector<std::size_t> order(steps.spans.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (CudaSpan& span : steps.spans) {
    span.stride = static_cast<std::int32_t>(margin_of(span) + block_samples);
    if (span.history == 0 || span.is_buffer) continue;
    span.ring = static_cast<std::int32_t>(state_floats);
    state_floats += span.history * span.channels;
  }
  for (LayerStack& stack : steps.stacks) {
    for (StackLayer& layer : stack.layers) {
      const std::int64_t samples = ring_samples(program, layer);
      if (!layer.reads_x || samples == 0) continue;
      state_floats = (state_floats + 3) / 4 * 4;
      layer.ring = static_cast<std::int32_t>(state_floats);
      state_floats += samples * stack.channels;
    }
  }
  // The largest first, each at the lowest place that is free for all of its time.
  const auto size = [&](std::size_t i) {
    return std::int64_t{steps.spans[i].stride} * steps.spans[i].channels;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return size(a) > size(b); });
  std::int64_t most = 0;
  for (std::size_t n = 0; n < order.size(); ++n) {
    CudaSpan& span = steps.spans[order[n]];
    std::vector<Range> taken;
    for (std::size_t m = 0; m < n; ++m) {
      const CudaSpan& other = steps.spans[order[m]];
      if (other.first <= span.last && span.first <= other.last) taken.push_back(range_of(other));
    }
    std::sort(taken.begin(), taken.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::int64_t begin = 0;
    for (const Range& range : taken) {
      if (begin + size(order[n]) <= range.begin) break;
      begin = std::max(begin, range.end);
    }
    span.at = static_cast<std::int32_t>(begin + margin_of(span));
    most = std::max(most, begin + size(order[n]));
  }
  return most;
}

std::vector<bool> barriers(const CudaSteps& steps) {
  std::vector<bool> waits(steps.steps.size(), false);
  std::vector<Access> open;
  for (std::size_t s = 0; s < steps.steps.size(); ++s) {
    const std::vector<Access> now = accesses_of(steps.steps[s]);
    // The first step follows the last one of the block before.
    bool wait = s == 0;
    for (const Access& before : open) {
      for (const Access& access : now) wait = wait || conflict(steps, before, access);
    }
    // The ring that a fetch or a convolution reads is written by stores of the same block only.
    const bool stores = steps.steps[s].kind == CudaOpKind::kStore;
    if (stores && steps.spans[static_cast<std::size_t>(steps.steps[s].a.span)].from_ring) {
      wait = true;
    }
    // A stack is one operation, after a barrier, with barriers of its own.
    const StackPart part = steps.steps[s].part;
    wait = part == StackPart::kReads || (wait && part == StackPart::kNone);
    if (wait) open.clear();
    waits[s] = wait;
    open.insert(open.end(), now.begin(), now.end());
  }
  return waits;
}

}  // namespace fxfast
