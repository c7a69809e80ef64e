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
  for (std::size_t l = 0; l < plan.layer_count(); ++l) {
    const PlanLayer& layer = plan.layer(l);
    float* row = line_at(state, layer.line_offset);
    for (std::uint32_t c = 0; c < layer.in_channels; ++c, row += layer.line_stride) {
      move_row_back(row, position, layer.history_samples());
    }
  }
}

ConvTask layer_task(const PlanView& plan, std::size_t l, std::byte* state,
                    std::uint32_t position) noexcept {
  const PlanLayer& layer = plan.layer(l);
  ConvTask task;
  task.input = line_at(state, layer.line_offset) + position;
  task.input_stride = layer.line_stride;
  if (l + 1 < plan.layer_count()) {
    const PlanLayer& next = plan.layer(l + 1);
    task.output = line_at(state, next.line_offset) + next.history_samples() + position;
    task.output_stride = next.line_stride;
  } else {
    task.output = line_at(state, plan.header().output_line_offset);
    task.output_stride = 0;
  }
  task.weights = plan.floats(layer.weights_offset);
  task.bias = plan.floats(layer.bias_offset);
  task.slopes = layer.slopes_offset == 0 ? nullptr : plan.floats(layer.slopes_offset);
  task.in_channels = static_cast<int>(layer.in_channels);
  task.out_channels = static_cast<int>(layer.out_channels);
  task.taps = static_cast<int>(layer.taps);
  task.dilation = static_cast<int>(layer.dilation);
  task.activation = static_cast<Activation>(layer.activation);
  return task;
}

void run_piece(const PlanView& plan, const KernelTable& kernels, std::byte* state,
               const float* input, float* output, std::uint32_t samples) noexcept {
  const PlanHeader& header = plan.header();
  auto* state_header = reinterpret_cast<StateHeader*>(state);
  if (state_header->position + samples > header.line_samples) {
    move_history_back(plan, state, state_header->position);
    state_header->position = 0;
  }
  const std::uint32_t position = state_header->position;
  const PlanLayer& first = plan.layer(0);
  float* line = line_at(state, first.line_offset) + first.history_samples() + position;
  std::memcpy(line, input, samples * sizeof(float));
  for (std::size_t l = 0; l < plan.layer_count(); ++l) {
    ConvTask task = layer_task(plan, l, state, position);
    task.samples = static_cast<int>(samples);
    kernels.conv(task);
  }
  const float* result = line_at(state, header.output_line_offset);
  if (header.skip != 0) {
    for (std::uint32_t t = 0; t < samples; ++t) output[t] = result[t] + line[t];
  } else {
    std::memcpy(output, result, samples * sizeof(float));
  }
  state_header->position = position + samples;
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
