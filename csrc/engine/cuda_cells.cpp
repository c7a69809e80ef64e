#include "engine/cuda_cells.h"

#include "base/buffers.h"
#include "engine/program.h"
#include "engine/stream_state.h"

namespace fxfast {
namespace {

// h and then c of a recurrent layer.
std::vector<float> recurrent_cells(const PlanOp& op, const std::byte* state) {
  const float* h = reinterpret_cast<const float*>(state + op.cell_offset);
  const float* c = h + gate_block_floats(op.out_channels);
  // c of an LSTM stands in the domain of exp2.
  const float scale = op.cell == static_cast<std::uint32_t>(Cell::kLstm) ? 0.34657359028f : 1.0f;
  std::vector<float> both(h, h + op.out_channels);
  for (std::uint32_t u = 0; u < op.out_channels; ++u) both.push_back(c[u] * scale);
  return both;
}

}  // namespace

std::vector<std::vector<float>> settled_cells(const PlanView& plan, const KernelTable& kernels,
                                              const float* knobs) {
  AlignedBuffer state(plan.state_bytes());
  settle(plan, kernels, state.data(), knobs);
  std::vector<std::vector<float>> all;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    if (op.kind != static_cast<std::uint32_t>(OpKind::kRecurrent)) continue;
    std::vector<float>& cells = all.emplace_back(recurrent_cells(op, state.data()));
    cells.resize(round_up(cells.size(), 4), 0.0f);
  }
  return all;
}

}  // namespace fxfast
