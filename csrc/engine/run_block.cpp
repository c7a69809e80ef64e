#include "engine/run_block.h"

#include <cstring>

#ifdef FXFAST_X86_64
#include <xmmintrin.h>
#endif

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

void move_history_back(const PlanView& plan, std::byte* state, std::uint32_t position) noexcept {
  for (std::size_t l = 0; l < plan.line_count(); ++l) {
    const PlanLine& line = plan.line(l);
    if (line.history == 0) continue;
    float* row = line_at(state, line.offset);
    for (std::uint32_t c = 0; c < line.channels; ++c, row += line.stride) {
      move_row_back(row, position, line.history);
    }
  }
}

// One pass over all operations for samples that follow `position` samples of the stretch.
class Pass {
 public:
  Pass(const PlanView& plan, const KernelTable& kernels, std::byte* state, std::uint32_t position,
       std::uint32_t samples) noexcept
      : plan_(plan),
        kernels_(kernels),
        state_(state),
        position_(position),
        samples_(static_cast<int>(samples)) {}

  // The first of this pass's samples in the first row of an operand.
  float* rows(const Operand& operand) const noexcept {
    if (operand.line == kNoLine) return nullptr;
    const PlanLine& line = plan_.line(operand.line);
    const std::uint32_t now = line.history == 0 ? 0 : line.history + position_;
    return line_at(state_, line.offset) + std::size_t{operand.first} * line.stride + now;
  }

  void run_all() const noexcept {
    for (std::size_t i = 0; i < plan_.op_count();) {
      const PlanOp& op = plan_.op(i);
      if (op.group.length > 1 && kernels_.layer != nullptr) {
        layer(i);
        i += op.group.length;
        continue;
      }
      switch (static_cast<OpKind>(op.kind)) {
        case OpKind::kConv: conv(op); break;
        case OpKind::kActivate: activate(op); break;
        case OpKind::kCombine: combine(op); break;
        case OpKind::kRecurrent: i += recurrent(i); continue;
      }
      ++i;
    }
  }

 private:
  std::ptrdiff_t stride(const Operand& operand) const noexcept {
    return operand.line == kNoLine ? 0 : plan_.line(operand.line).stride;
  }

  void conv(const PlanOp& op) const noexcept {
    ConvTask task;
    task.input = rows(op.a) - op.history_samples();
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
    task.dilation = static_cast<int>(op.dilation);
    task.samples = samples_;
    task.activation = static_cast<Activation>(op.activation);
    kernels_.conv(task);
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
    set_head(task, mixin, op.group.sum == 0 ? nullptr : &plan_.op(first + op.group.sum));
    if (op.group.residual != 0) set_residual(task, plan_.op(first + op.group.residual));
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
    return {rows(op.a),
            rows(op.output),
            plan_.floats(op.weights_offset),
            plan_.floats(op.bias_offset),
            line_at(state_, op.cell_offset),
            stride(op.a),
            stride(op.output),
            static_cast<int>(op.in_channels),
            static_cast<int>(op.out_channels),
            samples_,
            static_cast<Cell>(op.cell)};
  }

  // Runs the recurrent layers from operation `first` on of which each reads the one before, and
  // returns how many they are.
  std::size_t recurrent(std::size_t first) const noexcept {
    constexpr std::size_t kMostTogether = 4;
    RecurrentTask layers[kMostTogether];
    std::size_t count = 0;
    do {
      layers[count] = recurrent_task(plan_.op(first + count));
      ++count;
    } while (count < kMostTogether && follows(first + count));
    kernels_.recurrent(layers, static_cast<int>(count));
    return count;
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
  std::uint32_t position_;
  int samples_;
};

void run_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::uint32_t samples) noexcept {
  const PlanHeader& header = plan.header();
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  if (state_header->position + samples > header.stretch_samples) {
    move_history_back(plan, state, state_header->position);
    state_header->position = 0;
  }
  const Pass pass(plan, kernels, state, state_header->position, samples);
  std::memcpy(pass.rows({0, 0}), input, samples * sizeof(float));
  pass.run_all();
  std::memcpy(output, pass.rows({header.output_line, 0}), samples * sizeof(float));
  state_header->position += samples;
}

}  // namespace

void run_block(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::size_t samples) noexcept {
  const FlushDenormals flush;
  const std::size_t piece = plan.header().block_samples;
  while (samples > 0) {
    const std::size_t n = samples < piece ? samples : piece;
    run_piece(plan, kernels, state, input, output, static_cast<std::uint32_t>(n));
    input += n;
    output += n;
    samples -= n;
  }
}

}  // namespace fxfast
