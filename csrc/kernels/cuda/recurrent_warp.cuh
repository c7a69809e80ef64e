// Recurrent layers whose streams each stay within a warp, so that a step needs no barrier of the
// team: a lane is one unit, its weights in registers, and plays `turns` streams one after the
// other. Each gate is one sum, inputs first and then h, whatever else the warp plays.
#pragma once

#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/team.cuh"

namespace fxfast::cuda {

template <int kUnits, int kInputs, int kTurns, Cell kCell>
class WarpLayer {
  static constexpr WarpShape kShape{kUnits, kInputs, kTurns};
  static constexpr int kLanes = kShape.lanes(), kSides = kShape.sides();
  static constexpr int kStreamFloats = kShape.stream_floats();
  static constexpr int kBuffer = kShape.streams() * kStreamFloats;
  static constexpr bool kExtra = kShape.extra_units() > 0;
  static constexpr int kExtraTurns = kExtra ? kTurns : 1;
  static_assert(kTurns <= 4 && kUnits % 4 == 0 && kInputs <= kLanes);
  static_assert(kInputs == 1 || kInputs % 4 == 0);

 public:
  FXFAST_DEVICE static void play(const Team& team, const CudaOp& op) {
    WarpLayer layer(team, op);
    layer.play_block();
    layer.keep();
  }

 private:
  FXFAST_DEVICE WarpLayer(const Team& team, const CudaOp& op)
      : team_(team),
        op_(op),
        exchange_(shared_memory() + op.scratch + warp() * kShape.warp_floats()) {
    if constexpr (kExtra) copy_extra_weights();
#pragma unroll
    for (int k = 0; k < kTurns; ++k) begin_turn(k);
    if constexpr (kExtra) begin_extra();
    wait_for_all();
    // Last: they fill the registers.
    load_weights();
  }

  FXFAST_DEVICE static int lane() { return thread_index() % kWarp; }
  FXFAST_DEVICE static int warp() { return thread_index() / kWarp; }
  FXFAST_DEVICE static int warps() { return thread_count() / kWarp; }
  FXFAST_DEVICE static int unit() { return lane() % kLanes; }
  FXFAST_DEVICE static int side() { return lane() / kLanes; }
  // Of the extra unit that a lane plays: it is one of turn lane % 4.
  FXFAST_DEVICE static int extra_unit() { return kWarp + lane() / 4; }
  FXFAST_DEVICE static int extra_turn() { return lane() % 4 < kTurns ? lane() % 4 : 0; }
  FXFAST_DEVICE static bool extra_exists() { return lane() % 4 < kTurns; }

  FXFAST_DEVICE static int stream(int turn, int side) {
    return (turn * kSides + side) * warps() + warp();
  }
  FXFAST_DEVICE int stream(int turn) const { return stream(turn, side()); }
  FXFAST_DEVICE float* extra_weights() const {
    return shared_memory() + op_.scratch + warps() * kShape.warp_floats();
  }

  // Rows of the plan are those of the inputs that there are, then those of the units.
  FXFAST_DEVICE float4 weights_of(int row, bool exists) const {
    if (!exists || unit() >= op_.out_channels) return {0.0f, 0.0f, 0.0f, 0.0f};
    return load4(team_.floats + op_.weights + 4 * (row * op_.out_channels + unit()));
  }

  FXFAST_DEVICE void load_weights() {
#pragma unroll
    for (int i = 0; i < kInputs; ++i) input_weights_[i] = weights_of(i, i < op_.in_channels);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      weights_[u] = weights_of(op_.in_channels + u, u < op_.out_channels);
    }
    if constexpr (!kExtra) bias_ = bias_of(unit());
  }

  FXFAST_DEVICE Gates bias_of(int unit) const {
    Gates bias = {};
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      if (unit < op_.out_channels) bias.g[g] = team_.floats[op_.bias + 4 * unit + g];
    }
    return scaled_biases<kCell>(bias);
  }

  // [four rows of h][lane][row]: the gate lane % 4 of unit 32 + lane / 4.
  FXFAST_DEVICE void copy_extra_weights() {
    const int width = 4 * op_.out_channels, column = 4 * kWarp + lane();
    const float* from = team_.floats + op_.weights + column;
    float* to = extra_weights();
    for (int row = warp(); row < kUnits; row += thread_count() / kWarp) {
      const bool exists = column < width && row < op_.out_channels;
      to[(row / 4 * kWarp + lane()) * 4 + row % 4] =
          exists ? from[(op_.in_channels + row) * width] : 0.0f;
    }
    extra_input_weight_ = column < width && op_.in_channels > 0 ? from[0] : 0.0f;
  }

  // Where streams are missing, what is played is that of stream 0 and goes nowhere.
  FXFAST_DEVICE void begin_turn(int k) {
    const bool plays = stream(k) < team_.streams;
    const int there = plays ? stream(k) : 0;
    const bool has_unit = plays && unit() < op_.out_channels;
    const float* cell = team_.state(there) + op_.state + unit();
    h_[k] = has_unit ? cell[0] : 0.0f;
    memory_[k] = has_unit ? cell[op_.out_channels] : 0.0f;
    float* place = exchange_ + (k * kSides + side()) * kStreamFloats;
    if (unit() < kUnits) place[unit()] = h_[k];
    input_[k] = team_.row(there, op_.a, unit() < op_.in_channels ? unit() : 0);
    if constexpr (kInputs > 1) {
      if (unit() < kInputs) {
        place[kUnits + unit()] = unit() < op_.in_channels ? input_[k][0] : 0.0f;
        place[kBuffer + kUnits + unit()] = 0.0f;
      }
    } else {
      input_[k] = team_.row(there, op_.a, 0);
    }
    output_[k] = team_.row(there, op_.output, unit());
    ends_[k] = plays ? team_.samples(there) : 0;
    heard_[k] = plays ? team_.unheard(there) : 0;
  }

  // Where registers are few, biases are behind the weights of the extra units.
  FXFAST_DEVICE void keep_bias(const Gates& bias, int row) const {
#pragma unroll
    for (int g = 0; g < 4; ++g) extra_weights()[row * kWarp + 4 * lane() + g] = bias.g[g];
  }
  FXFAST_DEVICE Gates kept_bias(int row) const {
    const float4 four = load4(extra_weights_ + row * kWarp);
    return {{four.x, four.y, four.z, four.w}};
  }

  FXFAST_DEVICE bool extra_plays() const {
    return extra_exists() && stream(extra_turn(), 0) < team_.streams &&
           extra_unit() < op_.out_channels;
  }

  FXFAST_DEVICE void begin_extra() {
    const int there = extra_plays() ? stream(extra_turn(), 0) : 0;
    const float* cell = team_.state(there) + op_.state + extra_unit();
    extra_h_ = extra_plays() ? cell[0] : 0.0f;
    extra_memory_ = extra_plays() ? cell[op_.out_channels] : 0.0f;
    extra_weights_ = extra_weights() + 4 * lane();
    keep_bias(bias_of(extra_unit()), kUnits);
    keep_bias(bias_of(unit()), kUnits + 4);
    extra_output_ = team_.row(there, op_.output, extra_unit());
    if (extra_exists()) exchange_[extra_turn() * kStreamFloats + extra_unit()] = extra_h_;
  }

  // Stretches in which every stream of the warp is heard or is not.
  FXFAST_DEVICE void play_block() {
    int longest = 0;
    each_stream([&](int, int end) { longest = end > longest ? end : longest; });
    for (int t = 0; t < longest;) {
      int until = longest;
      each_stream([&](int heard, int end) {
        if (heard > t && heard < until) until = heard;
        if (end > t && end < until) until = end;
      });
      play_stretch(t, until);
      t = until;
    }
  }

  // Of the warp: how many samples of the block only warm up, and how many there are.
  template <typename Use>
  FXFAST_DEVICE void each_stream(const Use& use) const {
    if constexpr (kSides == 1) {
#pragma unroll
      for (int k = 0; k < kTurns; ++k) use(heard_[k], ends_[k]);
    } else {
      for (int s = warp(); s < team_.streams; s += warps()) {
        use(team_.unheard(s), team_.samples(s));
      }
    }
  }

  FXFAST_DEVICE void play_stretch(int t, int until) {
    bool steps[kTurns], writes[kTurns];
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      steps[k] = t < ends_[k] && t >= heard_[k];
      writes[k] = t < ends_[k] && unit() < op_.out_channels;
    }
    const bool extra_steps = extra_turn() == 0 ? steps[0] : steps[kTurns - 1];
    const bool extra_writes =
        extra_plays() && t < (extra_turn() == 0 ? ends_[0] : ends_[kTurns - 1]);
    // Two places take turns: what the step reads and what it writes.
    int turn = (t & 1) != 0 ? -kBuffer : kBuffer;
    const float* now = exchange_ + side() * kStreamFloats + (turn < 0 ? kBuffer : 0);
    float* next = exchange_ + side() * kStreamFloats + (turn < 0 ? 0 : kBuffer);
    for (; t < until; ++t) {
      step(t, now, next, steps, extra_steps);
#pragma unroll
      for (int k = 0; k < kTurns; ++k) {
        if (writes[k]) output_[k][t] = h_[k];
      }
      if (kExtra && extra_writes) extra_output_[t] = extra_h_;
      now += turn, next -= turn, turn = -turn;
      wait_for_warp();
    }
  }

  // `now` and `next` are places of the first stream of the side.
  FXFAST_DEVICE void step(int t, const float* now, float* next, const bool (&steps)[kTurns],
                          bool extra_steps) {
    Gates sum[kTurns] = {};
    float extra[kExtraTurns] = {};
    add_inputs(t, now, sum, extra);
    add_memory(now, sum, extra);
    if constexpr (kExtra) {
      float* gates = exchange_ + 2 * kBuffer;
#pragma unroll
      for (int k = 0; k < kTurns; ++k) gates[k * kWarp + lane()] = extra[k];
    }
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      float memory = memory_[k], h = h_[k];
      step_cell<kCell>(sum[k], kExtra ? kept_bias(kUnits + 4) : bias_, memory, h);
      if (steps[k]) memory_[k] = memory, h_[k] = h;
      float* place = next + k * kSides * kStreamFloats;
      if (kUnits >= kLanes || unit() < kUnits) place[unit()] = h_[k];
      if constexpr (kInputs > 1) {
        if (unit() < op_.in_channels) place[kUnits + unit()] = input_[k][t + 1];
      }
    }
    if constexpr (kExtra) {
      wait_for_warp();
      const float4 four = load4(exchange_ + 2 * kBuffer + extra_turn() * kWarp + lane() / 4 * 4);
      float memory = extra_memory_, h = extra_h_;
      step_cell<kCell>({{four.x, four.y, four.z, four.w}}, kept_bias(kUnits), memory, h);
      if (extra_steps) extra_memory_ = memory, extra_h_ = h;
      if (extra_exists()) next[extra_turn() * kStreamFloats + kWarp + lane() / 4] = extra_h_;
    }
  }

  FXFAST_DEVICE void add_inputs(int t, const float* now, Gates (&sum)[kTurns],
                                float (&extra)[kExtraTurns]) const {
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      if constexpr (kInputs == 1) {
        const float x = input_[k][t];
        add_products(sum[k], input_weights_[0], x);
        if constexpr (kExtra) extra[k] = extra_input_weight_ * x;
      } else {
        const float* place = now + k * kSides * kStreamFloats + kUnits;
#pragma unroll
        for (int i = 0; i < kInputs; i += 4) add_four(sum[k], &input_weights_[i], load4(place + i));
      }
    }
  }

  FXFAST_DEVICE void add_memory(const float* now, Gates (&sum)[kTurns],
                                float (&extra)[kExtraTurns]) const {
#pragma unroll
    for (int u = 0; u < kUnits; u += 4) {
      float4 w = {};
      if constexpr (kExtra) w = load4(extra_weights_ + u * kWarp);
#pragma unroll
      for (int k = 0; k < kTurns; ++k) {
        const float4 h = load4(now + k * kSides * kStreamFloats + u);
        add_four(sum[k], &weights_[u], h);
        if constexpr (kExtra) {
          extra[k] = multiply_add(w.x, h.x, extra[k]);
          extra[k] = multiply_add(w.y, h.y, extra[k]);
          extra[k] = multiply_add(w.z, h.z, extra[k]);
          extra[k] = multiply_add(w.w, h.w, extra[k]);
        }
      }
    }
  }

  FXFAST_DEVICE static void add_four(Gates& sum, const float4* w, const float4& v) {
    add_products(sum, w[0], v.x);
    add_products(sum, w[1], v.y);
    add_products(sum, w[2], v.z);
    add_products(sum, w[3], v.w);
  }

  FXFAST_DEVICE void keep() const {
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      if (ends_[k] == 0 || unit() >= op_.out_channels) continue;
      float* cell = team_.state(stream(k)) + op_.state + unit();
      cell[0] = h_[k], cell[op_.out_channels] = memory_[k];
    }
    if constexpr (kExtra) {
      const int there = stream(extra_turn(), 0);
      if (!extra_plays() || (extra_turn() == 0 ? ends_[0] : ends_[kTurns - 1]) == 0) return;
      float* cell = team_.state(there) + op_.state + extra_unit();
      cell[0] = extra_h_, cell[op_.out_channels] = extra_memory_;
    }
  }

  const Team& team_;
  const CudaOp& op_;
  float* exchange_;                       // of the warp
  const float* extra_weights_ = nullptr;  // of the lane
  float4 input_weights_[kInputs], weights_[kUnits];
  Gates bias_;
  float h_[kTurns], memory_[kTurns];
  int ends_[kTurns], heard_[kTurns];  // of the block: its samples, and those that only warm up
  const float* input_[kTurns];        // the row that the lane brings along, or the only one
  float* output_[kTurns];
  float extra_h_ = 0.0f, extra_memory_ = 0.0f, extra_input_weight_ = 0.0f;
  float* extra_output_ = nullptr;
};

}  // namespace fxfast::cuda
