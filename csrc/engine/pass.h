// From operations of a plan to tasks of the kernels: where every line's samples are.
#pragma once

#include "engine/delay.h"
#include "engine/filter.h"
#include "engine/level_gain.h"
#include "engine/packed_plan.h"
#include "engine/stream_state.h"
#include "kernels/kernel_table.h"

namespace fxfast {

inline float* line_at(std::byte* state, std::uint64_t offset) {
  return reinterpret_cast<float*>(state + offset);
}

// One pass over operations for samples that follow `position` samples of the stretch and `offset`
// samples of the grid.
class Pass {
 public:
  Pass(const PlanView& plan, const KernelTable& kernels, std::byte* state, std::uint32_t position,
       std::uint32_t offset, std::uint32_t samples) noexcept
      : plan_(plan),
        lines_(plan.lines()),
        ops_(plan.ops()),
        kernels_(kernels),
        state_(state),
        position_(position),
        offset_(offset),
        samples_(static_cast<int>(samples)) {}

  // The first of this pass's samples in the first row of an operand.
  float* rows(const Operand& operand) const noexcept {
    if (operand.line == kNoLine) return nullptr;
    const PlanLine& line = lines_[operand.line];
    std::uint32_t now = line.history == 0 ? 0 : line.history + position_;
    if (line.group == kSpansGrid) now = line.history + offset_;
    if (line.lane_block > 0) now = line.history * kLanes;
    return line_at(state_, line.offset) + std::size_t{operand.first} * line.stride + now;
  }

  FilterTask filter_task(const PlanOp& op) const noexcept {
    return {rows(op.a),
            rows(op.output),
            plan_.floats(op.weights_offset),
            plan_.floats(op.bias_offset),
            line_at(state_, op.cell_offset),
            line_at(state_, plan_.header().work_offset),
            std::int64_t{op.taps},
            samples_};
  }

  void run(std::size_t first, std::size_t end) const noexcept {
    for (std::size_t i = first; i < end;) {
      const PlanOp& op = ops_[i];
      if (op.layer.length > 1 && kernels_.layer != nullptr) {
        layer(i);
        i += op.layer.length;
        continue;
      }
      switch (static_cast<OpKind>(op.kind)) {
        case OpKind::kConv: conv(op); break;
        case OpKind::kActivate: activate(op); break;
        case OpKind::kCombine: combine(op); break;
        case OpKind::kRecurrent:
          i += recurrent(i, 1, [this](std::size_t) { return this; });
          continue;
        case OpKind::kFilter: filter(op); break;
        case OpKind::kDelay: delay(op); break;
        case OpKind::kLevelGain: level_gain(op); break;
        case OpKind::kToLanes: kernels_.to_lanes(layout(op)); break;
        case OpKind::kFromLanes: kernels_.from_lanes(layout(op)); break;
      }
      carry(op);
      ++i;
    }
  }

  // Runs the recurrent layers from operation `first` on of which each reads the one before, for
  // `streams` passes over equal operations, pass_of(s) each; returns how many layers they are.
  template <typename PassOf>
  std::size_t recurrent(std::size_t first, std::size_t streams,
                        const PassOf& pass_of) const noexcept {
    RecurrentTask layers[kMaxRecurrentLayers];
    RecurrentStream all[kMaxRecurrentLayers * kMaxRecurrentStreams];
    std::size_t count = 0;
    do {
      const PlanOp& op = ops_[first + count];
      layers[count] = recurrent_task(op);
      for (std::size_t s = 0; s < streams; ++s) {
        const Pass* pass = pass_of(s);
        all[count * streams + s] = {pass->rows(op.a), pass->rows(op.output),
                                    line_at(pass->state_, op.cell_offset)};
      }
      ++count;
    } while (count < kMaxRecurrentLayers && follows(first + count));
    kernels_.recurrent(layers, static_cast<int>(count), all, static_cast<int>(streams));
    return count;
  }

 private:
  static constexpr Operand kNone = {kNoLine, 0};

  std::ptrdiff_t stride(const Operand& operand) const noexcept {
    return operand.line == kNoLine ? 0 : lines_[operand.line].stride;
  }

  void conv(const PlanOp& op) const noexcept {
    if (op.transform > 0) return kernels_.spectral(spectral(op));
    const std::uint32_t lanes = op.lane_block > 0 ? kLanes : 1;
    ConvTask task;
    task.input = rows(op.a) - std::size_t{op.history_samples()} * lanes;
    task.output = rows(op.output);
    task.add = rows(op.b);
    task.weights = plan_.floats(op.weights_offset);
    task.bias = plan_.floats(op.bias_offset);
    task.params = plan_.floats(op.params_offset);
    task.input_stride = stride(op.a);
    task.output_stride = stride(op.output);
    task.add_stride = stride(op.b);
    task.in_channels = static_cast<int>(op.in_channels);
    task.out_channels = static_cast<int>(op.out_channels);
    task.taps = static_cast<int>(op.taps);
    task.dilation = static_cast<int>(op.dilation * lanes);
    task.samples = samples_;
    task.activation = static_cast<Activation>(op.activation);
    kernels_.conv(task);
  }

  SpectralTask spectral(const PlanOp& op) const noexcept {
    return {rows(op.a),
            rows(op.output),
            plan_.floats(op.weights_offset),
            plan_.floats(op.bias_offset),
            plan_.floats(op.params_offset),
            line_at(state_, plan_.header().work_offset),
            stride(op.a),
            stride(op.output),
            static_cast<int>(op.in_channels),
            static_cast<int>(op.out_channels),
            static_cast<int>(op.taps),
            static_cast<Activation>(op.activation)};
  }

  LanesTask layout(const PlanOp& op) const noexcept {
    return {rows(op.a), rows(op.output), stride(op.a), stride(op.output),
            static_cast<int>(op.out_channels)};
  }

  // What was written in lanes is also the history of later blocks.
  void carry(const PlanOp& op) const noexcept {
    const PlanLine& line = lines_[op.output.line];
    if (line.lane_block == 0 || line.history == 0) return;
    float* kept =
        line_at(state_, line.carry_offset()) + std::size_t{op.output.first} * line.history;
    kernels_.carry_lanes({rows(op.output), kept, stride(op.output),
                          static_cast<int>(op.out_channels), static_cast<int>(line.history)});
  }

  void layer(std::size_t first) const noexcept {
    const PlanOp& op = ops_[first];
    const PlanOp& mixin = ops_[first + 1];
    LayerTask task;
    task.input = rows(op.a) - op.history_samples();
    task.input_stride = stride(op.a);
    task.condition = rows(mixin.a);
    task.condition_stride = stride(mixin.a);
    task.weights = plan_.floats(op.weights_offset);
    task.condition_weights = plan_.floats(mixin.weights_offset);
    task.bias = plan_.floats(op.bias_offset);
    task.params = plan_.floats(mixin.params_offset);
    task.in_channels = static_cast<int>(op.in_channels);
    task.condition_channels = static_cast<int>(mixin.in_channels);
    task.channels = static_cast<int>(op.out_channels);
    task.taps = static_cast<int>(op.taps);
    task.dilation = static_cast<int>(op.dilation);
    task.samples = samples_;
    task.activation = static_cast<Activation>(mixin.activation);
    set_head(task, mixin, op.layer.sum == 0 ? nullptr : &ops_[first + op.layer.sum]);
    set_residual(task, op.layer.residual == 0 ? nullptr : &ops_[first + op.layer.residual]);
    kernels_.layer(task);
  }

  void set_head(LayerTask& task, const PlanOp& mixin, const PlanOp* sum) const noexcept {
    const Operand& head = sum == nullptr ? mixin.output : sum->output;
    task.head = rows(head);
    task.head_stride = stride(head);
    const bool a_is_first = sum != nullptr && sum->a.line == mixin.output.line;
    const Operand& total = sum == nullptr ? kNone : a_is_first ? sum->b : sum->a;
    task.head_sum = rows(total);
    task.head_sum_stride = stride(total);
  }

  void set_residual(LayerTask& task, const PlanOp* residual) const noexcept {
    if (residual == nullptr) {
      task.residual = nullptr;
      task.output = nullptr;
      task.out_channels = 0;
      return;
    }
    const PlanOp& op = *residual;
    task.residual = rows(op.b);
    task.residual_stride = stride(op.b);
    task.output = rows(op.output);
    task.output_stride = stride(op.output);
    task.output_weights = plan_.floats(op.weights_offset);
    task.output_bias = plan_.floats(op.bias_offset);
    task.out_channels = static_cast<int>(op.out_channels);
  }

  void activate(const PlanOp& op) const noexcept {
    kernels_.activate({rows(op.a), rows(op.output), plan_.floats(op.params_offset), stride(op.a),
                       stride(op.output), static_cast<int>(op.out_channels), samples_,
                       static_cast<Activation>(op.activation)});
  }

  void combine(const PlanOp& op) const noexcept {
    kernels_.combine({rows(op.a), rows(op.b), rows(op.c), rows(op.output), stride(op.a),
                      stride(op.b), stride(op.c), stride(op.output),
                      static_cast<int>(op.out_channels), samples_,
                      static_cast<Combine>(op.combine)});
  }

  RecurrentTask recurrent_task(const PlanOp& op) const noexcept {
    return {plan_.floats(op.weights_offset),
            plan_.floats(op.bias_offset),
            stride(op.a),
            stride(op.output),
            static_cast<int>(op.in_channels),
            static_cast<int>(op.out_channels),
            samples_,
            static_cast<Cell>(op.cell)};
  }

  void filter(const PlanOp& op) const noexcept {
    (op.step > 0 ? run_offline_filter : run_filter)(kernels_, filter_task(op));
  }

  void delay(const PlanOp& op) const noexcept {
    const bool is_settling = reinterpret_cast<const StateHeader*>(state_)->is_settling != 0;
    const auto run = is_settling ? run_delay_at_rest : kernels_.delay;
    run({rows(op.a), rows(op.output), plan_.floats(op.params_offset),
         line_at(state_, op.cell_offset), static_cast<std::ptrdiff_t>(op.dilation), samples_});
  }

  void level_gain(const PlanOp& op) const noexcept {
    kernels_.level_gain({rows(op.a), rows(op.output), plan_.floats(op.params_offset),
                         reinterpret_cast<GainState*>(state_ + op.cell_offset),
                         static_cast<int>(op.in_channels), samples_});
  }

  // Whether operation `i` is a recurrent layer over all that the operation before it writes.
  bool follows(std::size_t i) const noexcept {
    if (i >= plan_.op_count()) return false;
    const PlanOp &op = ops_[i], &before = ops_[i - 1];
    return op.kind == static_cast<std::uint32_t>(OpKind::kRecurrent) &&
           op.a.line == before.output.line && op.a.first == before.output.first &&
           op.in_channels == before.out_channels && op.output.line != before.a.line;
  }

  const PlanView& plan_;
  // A look at the plan's header for each of them would take longer than the rest of a short task.
  const PlanLine* lines_;
  const PlanOp* ops_;
  const KernelTable& kernels_;
  std::byte* state_;
  std::uint32_t position_, offset_;
  int samples_;
};

}  // namespace fxfast
