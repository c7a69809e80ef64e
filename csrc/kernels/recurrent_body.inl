// Recurrent layers, one stream, compiled per instruction set after kernels_body.inl and under the
// same rules. A vector holds consecutive units of one gate; weights are streamed row by row, x and
// h are broadcast. The state is read and written in whole vectors: its blocks are padded.

namespace FXFAST_ISA_NAMESPACE {

// Sums over h run in this many chains, so that they do not wait for each other.
constexpr int kChains = FXFAST_VECTOR_REGISTERS >= 32 ? 4 : 2;

static FXFAST_INLINE void add_row(Vec (&sums)[4], const float* w, std::ptrdiff_t block, float x) {
  const Vec value = broadcast(x);
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) sums[g] += load(w + g * block) * value;
}

// The four gates of kVec units from unit `first` on.
static FXFAST_INLINE void gate_sums(const RecurrentTask& task, int t, int first, Vec (&gates)[4]) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  Vec sums[kChains][4] = {};
  const float* w = task.weights + first;
  for (int i = 0; i < task.in_channels; ++i, w += 4 * block) {
    add_row(sums[0], w, block, task.input[i * task.input_stride + t]);
  }
  const float* h = task.state;
  int j = 0;
  for (; j + kChains <= task.units; j += kChains) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain, w += 4 * block) {
      add_row(sums[chain], w, block, h[j + chain]);
    }
  }
  for (; j < task.units; ++j, w += 4 * block) add_row(sums[0], w, block, h[j]);
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    if (kChains == 4) sums[2][g] += sums[3][g], sums[0][g] += sums[2][g];
    gates[g] = sums[0][g] + sums[1][g] + load(task.bias + g * block + first);
  }
}

template <Cell kCell>
static FXFAST_INLINE Vec next_h(const Vec (&gates)[4], float* c, Vec h) {
  if constexpr (kCell == Cell::kLstm) {
    const Vec cell = sigmoid_of(gates[1]) * load(c) + sigmoid_of(gates[0]) * tanh_of(gates[2]);
    store(c, cell);
    return sigmoid_of(gates[3]) * tanh_of(cell);
  } else {
    const Vec z = sigmoid_of(gates[1]);
    const Vec n = tanh_of(gates[2] + sigmoid_of(gates[0]) * gates[3]);
    return (1.0f - z) * n + z * h;
  }
}

// One sample of one layer.
template <Cell kCell>
static FXFAST_INLINE void step(const RecurrentTask& task, int t) {
  const std::ptrdiff_t block = gate_block_floats(task.units);
  float* h = task.state;
  float* c = task.state + block;
  // All gates read the old h: only a layer of one vector may write the new one in its place.
  const bool in_place = task.units <= kVec;
  float* next = in_place ? h : task.state + 2 * block;
  for (int first = 0; first < task.units; first += kVec) {
    Vec gates[4];
    gate_sums(task, t, first, gates);
    store(next + first, next_h<kCell>(gates, c + first, load(h + first)));
  }
  for (int j = 0; j < task.units; ++j) task.output[j * task.output_stride + t] = next[j];
  if (in_place) return;
  for (int first = 0; first < task.units; first += kVec) store(h + first, load(next + first));
}

// A layer waits for its own last sample most of the time; so each layer works one sample behind
// the one before it, and the processor overlaps their waiting.
void recurrent(const RecurrentTask* layers, int count) noexcept {
  const int samples = layers[0].samples;
  for (int now = 0; now < samples + count - 1; ++now) {
    for (int l = 0; l < count; ++l) {
      const int t = now - l;
      if (t < 0 || t >= samples) continue;
      // A copy: nothing that is stored can change it, so its fields stay in registers.
      const RecurrentTask layer = layers[l];
      if (layer.cell == Cell::kLstm) {
        step<Cell::kLstm>(layer, t);
      } else {
        step<Cell::kGru>(layer, t);
      }
    }
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
