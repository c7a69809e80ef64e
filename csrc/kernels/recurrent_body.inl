// Recurrent layers, one stream, compiled per instruction set after kernels_body.inl and under the
// same rules. A vector holds consecutive units of one gate; weights are streamed row by row, x and
// h are broadcast. The state is read and written in whole vectors: its blocks are padded.

namespace FXFAST_ISA_NAMESPACE {

// The four gates of kVec units from unit `first` on: two chains for each, over even and odd rows,
// so that the sums do not wait for each other.
static FXFAST_INLINE void gate_sums(const RecurrentTask& task, int t, int first, Vec (&gates)[4]) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  Vec even[4], odd[4] = {};
  const float* w = task.weights + first;
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) even[g] = load(task.bias + g * block + first);
  for (int i = 0; i < task.in_channels; ++i, w += 4 * block) {
    const Vec x = broadcast(task.input[i * task.input_stride + t]);
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) even[g] += load(w + g * block) * x;
  }
  const float* h = task.state;
  int j = 0;
  for (; j + 1 < task.units; j += 2, w += 8 * block) {
    const Vec h0 = broadcast(h[j]), h1 = broadcast(h[j + 1]);
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      even[g] += load(w + g * block) * h0;
      odd[g] += load(w + (4 + g) * block) * h1;
    }
  }
  if (j < task.units) {
    const Vec h0 = broadcast(h[j]);
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) even[g] += load(w + g * block) * h0;
  }
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) gates[g] = even[g] + odd[g];
}

template <Cell kCell>
void recurrent_cells(const RecurrentTask& task) noexcept {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  float* h = task.state;
  float* c = task.state + block;
  float* next = task.state + 2 * block;
  for (int t = 0; t < task.samples; ++t) {
    for (int first = 0; first < task.units; first += kVec) {
      Vec gates[4];
      gate_sums(task, t, first, gates);
      if constexpr (kCell == Cell::kLstm) {
        const Vec kept = sigmoid_of(gates[1]) * load(c + first);
        const Vec cell = kept + sigmoid_of(gates[0]) * tanh_of(gates[2]);
        store(c + first, cell);
        store(next + first, sigmoid_of(gates[3]) * tanh_of(cell));
      } else {
        const Vec z = sigmoid_of(gates[1]);
        const Vec n = tanh_of(gates[2] + sigmoid_of(gates[0]) * gates[3]);
        store(next + first, (1.0f - z) * n + z * load(h + first));
      }
    }
    for (int first = 0; first < task.units; first += kVec) store(h + first, load(next + first));
    for (int j = 0; j < task.units; ++j) task.output[j * task.output_stride + t] = h[j];
  }
}

void recurrent(const RecurrentTask& task) noexcept {
  if (task.cell == Cell::kLstm) return recurrent_cells<Cell::kLstm>(task);
  return recurrent_cells<Cell::kGru>(task);
}

}  // namespace FXFAST_ISA_NAMESPACE
