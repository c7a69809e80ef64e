#include "engine/run_block.h"

#include <algorithm>
#include <cstring>
#include <optional>

#ifdef FXFAST_X86_64
#include <xmmintrin.h>
#endif

#include "engine/filter.h"

namespace fxfast {
namespace {

// Denormal numbers cost a hundred cycles each; inside the engine they are zero.
class FlushDenormals {
 public:
#ifdef FXFAST_X86_64
  FlushDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  FlushDenormals() noexcept {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (1ull << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
  FlushDenormals() noexcept {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#ifdef FXFAST_X86_64
  unsigned saved_;
#elif defined(__aarch64__)
  unsigned long long saved_;
#endif
};

float* line_at(std::byte* state, std::uint64_t offset) {
  return reinterpret_cast<float*>(state + offset);
}

// Whole cache lines, upwards, each read before it is written: rows have room for them, histories
// are short, and a call of memmove for every row would cost more than the copy.
void move_row_back(float* row, std::uint32_t from, std::uint32_t samples) noexcept {
  constexpr std::uint32_t kLine = kCacheLineBytes / sizeof(float);
  for (std::uint32_t t = 0; t < samples; t += kLine) {
    float line[kLine];
    std::memcpy(line, row + from + t, sizeof(line));
    std::memcpy(row + t, line, sizeof(line));
  }
}

void move_history_back(const PlanView& plan, std::byte* state, std::uint32_t group,
                       std::uint32_t position) noexcept {
  for (std::size_t l = 0; l < plan.line_count(); ++l) {
    const PlanLine& line = plan.line(l);
    if (line.history == 0 || line.group != group) continue;
    float* row = line_at(state, line.offset);
    for (std::uint32_t c = 0; c < line.channels; ++c, row += line.stride) {
      move_row_back(row, position, line.history);
    }
  }
}

// One pass over operations for samples that follow `position` samples of the stretch and `offset`
// samples of the grid.
class Pass {
 public:
  Pass(const PlanView& plan, const KernelTable& kernels, std::byte* state, std::uint32_t position,
       std::uint32_t offset, std::uint32_t samples) noexcept
      : plan_(plan),
        kernels_(kernels),
        state_(state),
        position_(position),
        offset_(offset),
        samples_(static_cast<int>(samples)) {}

  // The first of this pass's samples in the first row of an operand.
  float* rows(const Operand& operand) const noexcept {
    if (operand.line == kNoLine) return nullptr;
    const PlanLine& line = plan_.line(operand.line);
    std::uint32_t now = line.history == 0 ? 0 : line.history + position_;
    if (line.group == kSpansGrid) now = line.history + offset_;
    if (line.lane_block > 0) now = line.history * kLanes;
    return line_at(state_, line.offset) + std::size_t{operand.first} * line.stride + now;
  }

  void run(std::size_t first, std::size_t end) const noexcept {
    for (std::size_t i = first; i < end;) {
      const PlanOp& op = plan_.op(i);
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
      const PlanOp& op = plan_.op(first + count);
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
  std::ptrdiff_t stride(const Operand& operand) const noexcept {
    return operand.line == kNoLine ? 0 : plan_.line(operand.line).stride;
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
    const PlanLine& line = plan_.line(op.output.line);
    if (line.lane_block == 0 || line.history == 0) return;
    float* kept =
        line_at(state_, line.carry_offset()) + std::size_t{op.output.first} * line.history;
    kernels_.carry_lanes({rows(op.output), kept, stride(op.output),
                          static_cast<int>(op.out_channels), static_cast<int>(line.history)});
  }

  void layer(std::size_t first) const noexcept {
    const PlanOp& op = plan_.op(first);
    const PlanOp& mixin = plan_.op(first + 1);
    LayerTask task{};
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
    set_head(task, mixin, op.layer.sum == 0 ? nullptr : &plan_.op(first + op.layer.sum));
    if (op.layer.residual != 0) set_residual(task, plan_.op(first + op.layer.residual));
    kernels_.layer(task);
  }

  void set_head(LayerTask& task, const PlanOp& mixin, const PlanOp* sum) const noexcept {
    const Operand& head = sum == nullptr ? mixin.output : sum->output;
    task.head = rows(head);
    task.head_stride = stride(head);
    if (sum == nullptr) return;
    const bool a_is_first = sum->a.line == mixin.output.line;
    const Operand& total = a_is_first ? sum->b : sum->a;
    task.head_sum = rows(total);
    task.head_sum_stride = stride(total);
  }

  void set_residual(LayerTask& task, const PlanOp& op) const noexcept {
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
    const auto run = op.step > 0 ? run_offline_filter : run_filter;
    run(kernels_,
        {rows(op.a), rows(op.output), plan_.floats(op.weights_offset), plan_.floats(op.bias_offset),
         line_at(state_, op.cell_offset), std::int64_t{op.taps}, samples_});
  }

  // Whether operation `i` is a recurrent layer over all that the operation before it writes.
  bool follows(std::size_t i) const noexcept {
    if (i >= plan_.op_count()) return false;
    const PlanOp &op = plan_.op(i), &before = plan_.op(i - 1);
    return op.kind == static_cast<std::uint32_t>(OpKind::kRecurrent) &&
           op.a.line == before.output.line && op.a.first == before.output.first &&
           op.in_channels == before.out_channels && op.output.line != before.a.line;
  }

  const PlanView& plan_;
  const KernelTable& kernels_;
  std::byte* state_;
  std::uint32_t position_, offset_;
  int samples_;
};

// `values` has room for `wanted` samples; nullptr is silence.
void copy_in(float* values, const float* input, std::uint32_t samples,
             std::uint32_t wanted) noexcept {
  if (input == nullptr) samples = 0;
  if (samples > 0) std::memcpy(values, input, samples * sizeof(float));
  std::memset(values + samples, 0, (wanted - samples) * sizeof(float));
}

Pass start_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                 const float* input, std::uint32_t samples) noexcept {
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  if (state_header->position + samples > plan.header().stretch_samples) {
    move_history_back(plan, state, 0, state_header->position);
    state_header->position = 0;
  }
  const Pass pass(plan, kernels, state, state_header->position, 0, samples);
  copy_in(pass.rows({0, 0}), input, samples, samples);
  return pass;
}

void end_piece(const PlanView& plan, const Pass& pass, std::byte* state, float* output,
               std::uint32_t samples) noexcept {
  const float* result = pass.rows({plan.header().output_line, 0});
  if (output != nullptr) std::memcpy(output, result, samples * sizeof(float));
  reinterpret_cast<StateHeader*>(state)->position += samples;
}

void run_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::uint32_t samples) noexcept {
  const Pass pass = start_piece(plan, kernels, state, input, samples);
  pass.run(0, plan.op_count());
  end_piece(plan, pass, state, output, samples);
}

// One piece of up to kMaxRecurrentStreams streams, `done` samples into their blocks: recurrent
// layers for all streams at once, what is between them stream by stream.
void run_pieces(const PlanView& plan, const KernelTable& kernels, const BatchStream* streams,
                std::size_t count, std::size_t done, std::uint32_t samples) noexcept {
  std::optional<Pass> passes[kMaxRecurrentStreams];
  for (std::size_t s = 0; s < count; ++s) {
    passes[s].emplace(
        start_piece(plan, kernels, streams[s].state, streams[s].input + done, samples));
  }
  const auto is_recurrent = [&](std::size_t i) {
    return plan.op(i).kind == static_cast<std::uint32_t>(OpKind::kRecurrent);
  };
  for (std::size_t first = 0; first < plan.op_count();) {
    std::size_t end = first;
    while (end < plan.op_count() && !is_recurrent(end)) ++end;
    for (std::size_t s = 0; s < count; ++s) passes[s]->run(first, end);
    first = end;
    if (end < plan.op_count()) {
      first += passes[0]->recurrent(end, count, [&](std::size_t s) { return &*passes[s]; });
    }
  }
  for (std::size_t s = 0; s < count; ++s) {
    end_piece(plan, *passes[s], streams[s].state, streams[s].output + done, samples);
  }
}

// How many samples of the grid operation `first` computes where `samples` of the output are wanted:
// what later operations read, which take whole steps.
std::uint32_t wanted_samples(const PlanView& plan, std::size_t first,
                             std::uint32_t samples) noexcept {
  for (std::size_t i = plan.op_count(); i-- > first;) {
    const std::uint32_t step = plan.op(i).step;
    if (step > 0) samples = static_cast<std::uint32_t>(round_up(samples, step));
  }
  return samples;
}

// The operations of one group over `wanted` samples of a grid, step by step. Returns the position
// of its lines after it: every group of step 0 starts at `position` and takes the same pieces of a
// whole grid; after a part of one, the stream has ended.
std::uint32_t run_group(const PlanView& plan, const KernelTable& kernels, std::byte* state,
                        std::uint32_t group, std::uint32_t position, std::uint32_t wanted,
                        std::size_t first, std::size_t end) noexcept {
  const PlanHeader& header = plan.header();
  const std::uint32_t step = plan.op(first).step;
  const std::uint32_t most = step == 0 ? header.block_samples : step;
  for (std::uint32_t offset = 0; offset < wanted; offset += most) {
    const std::uint32_t left = wanted - offset;
    const std::uint32_t samples = left < most ? left : most;
    if (step == 0 && position + samples > header.stretch_samples) {
      move_history_back(plan, state, group, position);
      position = 0;
    }
    Pass(plan, kernels, state, position, offset, samples).run(first, end);
    if (step == 0) position += samples;
  }
  return position;
}

// One grid, of which the first `samples` are played.
void run_grid(const PlanView& plan, const KernelTable& kernels, std::byte* state,
              const float* input, float* output, std::uint32_t samples) noexcept {
  const PlanHeader& header = plan.header();
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  const Pass whole(plan, kernels, state, 0, 0, header.grid_samples);
  copy_in(whole.rows({0, 0}), input, samples, header.grid_samples);
  const std::uint32_t start = state_header->position;
  std::uint32_t group = 0;
  for (std::size_t first = 0, end = 0; first < plan.op_count(); first = end, ++group) {
    while (end < plan.op_count() && plan.op(end).step == plan.op(first).step) ++end;
    const std::uint32_t wanted = wanted_samples(plan, first, samples);
    const std::uint32_t position =
        run_group(plan, kernels, state, group, start, wanted, first, end);
    if (plan.op(first).step == 0) state_header->position = position;
  }
  const float* result = whole.rows({header.output_line, 0});
  if (output != nullptr) std::memcpy(output, result, samples * sizeof(float));
  move_history_back(plan, state, kSpansGrid, header.grid_samples);
  state_header->has_ended = samples < header.grid_samples ? 1 : 0;
}

}  // namespace

void run_block(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::size_t samples) noexcept {
  const FlushDenormals flush;
  const bool has_grid = plan.has_grid();
  const std::size_t piece = has_grid ? plan.grid_samples() : plan.header().block_samples;
  while (samples > 0) {
    const std::size_t n = samples < piece ? samples : piece;
    (has_grid ? run_grid : run_piece)(plan, kernels, state, input, output,
                                      static_cast<std::uint32_t>(n));
    if (input != nullptr) input += n;
    if (output != nullptr) output += n;
    samples -= n;
  }
}

void run_block_batch(const PlanView& plan, const KernelTable& kernels, const BatchStream* streams,
                     std::size_t count, std::size_t samples) noexcept {
  if (count == 1 || !plan.is_recurrent() || plan.has_grid()) {
    for (std::size_t s = 0; s < count; ++s) {
      run_block(plan, kernels, streams[s].state, streams[s].input, streams[s].output, samples);
    }
    return;
  }
  const FlushDenormals flush;
  const std::size_t most = plan.header().block_samples;
  for (std::size_t first = 0; first < count; first += kMaxRecurrentStreams) {
    const std::size_t together = std::min<std::size_t>(kMaxRecurrentStreams, count - first);
    for (std::size_t done = 0; done < samples; done += most) {
      run_pieces(plan, kernels, streams + first, together, done,
                 static_cast<std::uint32_t>(std::min(most, samples - done)));
    }
  }
}

}  // namespace fxfast
