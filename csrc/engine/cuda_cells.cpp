#include "engine/cuda_cells.h"

#include <algorithm>
#include <cstring>

#include "base/buffers.h"
#include "engine/cuda_tail.h"
#include "engine/delay.h"
#include "engine/stream_state.h"
#include "kernels/cuda/cuda_program.h"
#include "kernels/gain_task.h"

namespace fxfast {
namespace {

// h and then c of a recurrent layer.
std::vector<float> recurrent_cells(const PlanOp& op, const float* h) {
  const float* c = h + gate_block_floats(op.out_channels);
  // c of an LSTM stands in the domain of exp2.
  const float scale = op.cell == static_cast<std::uint32_t>(Cell::kLstm) ? 0.34657359028f : 1.0f;
  std::vector<float> both(h, h + op.out_channels);
  for (std::uint32_t u = 0; u < op.out_channels; ++u) both.push_back(c[u] * scale);
  return both;
}

// What every sample before the stream was, and the memories of the sections.
std::vector<float> delay_cells(const float* numbers, const float* state) {
  std::vector<float> cells{state[kDelayRingOffset], 0.0f, 0.0f, 0.0f};
  const float* sections = state + kDelaySectionOffset;
  cells.insert(cells.end(), sections, sections + 4 * static_cast<int>(numbers[kSections]));
  return cells;
}

template <typename T>
void append(std::vector<float>& to, const T& value) {
  const std::size_t at = to.size();
  to.resize(at + sizeof(T) / sizeof(float));
  std::memcpy(to.data() + at, &value, sizeof(T));
}

// What comes out at rest for an input of one.
float gain_at_rest(const float* numbers) {
  const float one = 1.0f;
  float y = 0.0f, state[kDelayRingOffset] = {};
  run_delay_at_rest({&one, &y, numbers, state, 0, 1});
  return y;
}

}  // namespace

std::vector<CudaCells> settled_cells(const PlanView& plan, const KernelTable& kernels,
                                     const float* knobs) {
  AlignedBuffer state(plan.state_bytes());
  settle(plan, kernels, state.data(), knobs);
  std::vector<CudaCells> all;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    const auto kind = static_cast<OpKind>(op.kind);
    const bool is_tail = kind == OpKind::kFilter && op.taps > kMaxCudaFilterTaps;
    if (!is_tail && !has_endless_memory(kind)) continue;
    const float* of = reinterpret_cast<const float*>(state.data() + op.cell_offset);
    CudaCells& cells = all.emplace_back();
    if (is_tail) {
      cells.ring = tail_state_floats(op.taps);
    } else if (kind == OpKind::kRecurrent) {
      cells.first = recurrent_cells(op, of);
    } else if (kind == OpKind::kLevelGain) {
      cells.first.assign(of, of + kGainStateFloats);
    } else {
      cells.first = delay_cells(plan.floats(op.params_offset), of);
      cells.ring = op.dilation;
    }
    cells.first.resize(round_up(cells.first.size(), 4), 0.0f);
  }
  return all;
}

std::vector<float> cuda_delay_numbers(const Op& op) {
  const float* numbers = op.params.data();
  const DelaySizes sizes = check_delay(numbers, op.params.size(), "delay");
  const int voices = static_cast<int>(numbers[kVoices]);
  const int sections = static_cast<int>(numbers[kSections]);
  cuda::CudaDelay delay{};
  delay.dry = numbers[kDry], delay.wet = numbers[kWet];
  delay.wet_filtered = numbers[kWetFiltered], delay.feedback = numbers[kFeedback];
  delay.gain_at_rest = gain_at_rest(numbers);
  delay.points = static_cast<std::int32_t>(numbers[kPoints]);
  delay.voices = voices, delay.sections = sections;
  delay.shortest = static_cast<std::int32_t>(sizes.shortest) - (delay.points == 4 ? 1 : 0);
  std::vector<float> packed;
  append(packed, delay);
  std::int32_t table = static_cast<std::int32_t>(
      (sizeof(delay) + static_cast<std::size_t>(voices) * sizeof(cuda::CudaVoice) +
       static_cast<std::size_t>(sections) * sizeof(cuda::CudaSection)) /
      sizeof(float));
  for (int v = 0; v < voices; ++v) {
    const DelayVoice voice = delay_voice(numbers, v);
    append(packed, cuda::CudaVoice{voice.step, voice.start, voice.gain,
                                   static_cast<std::int32_t>(voice.base), voice.bits, table});
    table += 1 << voice.bits;
  }
  const float* of = delay_sections(numbers);
  for (int s = 0; s < sections; ++s, of += kSectionFloats) {
    append(packed, cuda::CudaSection{{of[0], of[1], of[2], of[3], of[4]}, {}});
  }
  for (int v = 0; v < voices; ++v) {
    const DelayVoice voice = delay_voice(numbers, v);
    packed.insert(packed.end(), voice.table, voice.table + (std::ptrdiff_t{1} << voice.bits));
  }
  return packed;
}

bool is_mixed(const Program& program) {
  return std::any_of(program.ops.begin(), program.ops.end(), [](const Op& op) {
    return op.kind == OpKind::kDelay || op.kind == OpKind::kLevelGain || has_tail(op);
  });
}

}  // namespace fxfast
