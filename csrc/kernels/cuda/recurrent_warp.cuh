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
  static_assert(kTurns <= 4 && kUnits % 4 == 0 && (kInputs == 1 || kInputs % 4 == 0));

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
        lane_(thread_index() % kWarp),
        warp_(thread_index() / kWarp),
        unit_(lane_ % kLanes) {
    const int warps = thread_count() / kWarp;
    exchange_ = shared_memory() + op.scratch + warp_ * kShape.warp_floats();
    extra_weights_ = shared_memory() + op.scratch + warps * kShape.warp_floats() + 4 * lane_;
    load_weights();
    if constexpr (kExtra) copy_extra_weights();
#pragma unroll
    for (int k = 0; k < kTurns; ++k) begin_turn(k, (k * kSides + lane_ / kLanes) * warps + warp_);
    if constexpr (kExtra) begin_extra(warps);
    wait_for_all();
  }

  // Rows of the plan are those of the inputs that there are, then those of the units.
  FXFAST_DEVICE float4 weights_of(int row, bool exists) const {
    if (!exists || unit_ >= op_.out_channels) return {0.0f, 0.0f, 0.0f, 0.0f};
    return load4(team_.floats + op_.weights + 4 * (row * op_.out_channels + unit_));
  }

  FXFAST_DEVICE void load_weights() {
#pragma unroll
    for (int i = 0; i < kInputs; ++i) input_weights_[i] = weights_of(i, i < op_.in_channels);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      weights_[u] = weights_of(op_.in_channels + u, u < op_.out_channels);
    }
    bias_ = bias_of(unit_);
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
    const int width = 4 * op_.out_channels, column = 4 * kWarp + lane_;
    const float* from = team_.floats + op_.weights + column;
    float* to = shared_memory() + op_.scratch + thread_count() / kWarp * kShape.warp_floats();
    for (int row = warp_; row < kUnits; row += thread_count() / kWarp) {
      const bool exists = column < width && row < op_.out_channels;
      to[(row / 4 * kWarp + lane_) * 4 + row % 4] =
          exists ? from[(op_.in_channels + row) * width] : 0.0f;
    }
    extra_input_weight_ = column < width && op_.in_channels > 0 ? from[0] : 0.0f;
  }

  FXFAST_DEVICE void begin_turn(int k, int stream) {
    const bool plays = stream < team_.streams;
    stream_[k] = plays ? stream : 0;
    heard_from_[k] = plays ? team_.unheard(stream) : 0;
    samples_[k] = plays ? team_.samples(stream) : 0;
    const bool has_unit = plays && unit_ < op_.out_channels;
    const float* cell = team_.state(stream_[k]) + op_.state + unit_;
    h_[k] = has_unit ? cell[0] : 0.0f;
    memory_[k] = has_unit ? cell[op_.out_channels] : 0.0f;
    float* place = exchange_ + (k * kSides + lane_ / kLanes) * kStreamFloats;
    if (unit_ < kUnits) place[unit_] = h_[k];
    if constexpr (kInputs > 1) {
      for (int i = unit_; i < kInputs; i += kLanes) {
        const bool exists = i < op_.in_channels && samples_[k] > 0;
        place[kUnits + i] = exists ? team_.row(stream_[k], op_.a, i)[0] : 0.0f;
        place[kBuffer + kUnits + i] = 0.0f;
      }
    }
    input_[k] = team_.row(stream_[k], op_.a, 0);
    output_[k] = team_.row(stream_[k], op_.output, unit_);
  }

  // A lane plays the extra unit lane / 4 of turn lane % 4.
  FXFAST_DEVICE void begin_extra(int warps) {
    const int unit = kWarp + lane_ / 4, turn = lane_ % 4;
    extra_exists_ = turn < kTurns;
    extra_turn_ = extra_exists_ ? turn : 0;
    const int stream = extra_turn_ * warps + warp_;
    const bool plays = extra_exists_ && stream < team_.streams && unit < op_.out_channels;
    extra_plays_ = plays;
    const int there = plays ? stream : 0;
    const float* cell = team_.state(there) + op_.state + unit;
    extra_h_ = plays ? cell[0] : 0.0f;
    extra_memory_ = plays ? cell[op_.out_channels] : 0.0f;
    extra_bias_ = bias_of(unit);
    extra_output_ = team_.row(there, op_.output, unit);
    if (extra_exists_) exchange_[extra_turn_ * kStreamFloats + unit] = extra_h_;
  }

  // Stretches in which every stream of the warp is heard or is not.
  FXFAST_DEVICE void play_block() {
    const int warps = thread_count() / kWarp;
    int longest = 0;
    for (int s = warp_; s < team_.streams; s += warps) {
      longest = team_.samples(s) > longest ? team_.samples(s) : longest;
    }
    for (int t = 0; t < longest;) {
      int until = longest;
      for (int s = warp_; s < team_.streams; s += warps) {
        const int heard = team_.unheard(s), end = team_.samples(s);
        if (heard > t && heard < until) until = heard;
        if (end > t && end < until) until = end;
      }
      play_stretch(t, until);
      t = until;
    }
  }

  FXFAST_DEVICE void play_stretch(int t, int until) {
    bool steps[kTurns], writes[kTurns];
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      steps[k] = t >= heard_from_[k] && t < samples_[k];
      writes[k] = t < samples_[k] && unit_ < op_.out_channels;
    }
    const bool extra_steps = extra_turn_ == 0 ? steps[0] : steps[kTurns - 1];
    const bool extra_writes =
        extra_plays_ && (extra_turn_ == 0 ? t < samples_[0] : t < samples_[kTurns - 1]);
    for (; t < until; ++t) {
      step(t, steps, extra_steps);
#pragma unroll
      for (int k = 0; k < kTurns; ++k) {
        if (writes[k]) output_[k][t] = h_[k];
      }
      if (kExtra && extra_writes) extra_output_[t] = extra_h_;
      wait_for_warp();
    }
  }

  FXFAST_DEVICE void step(int t, const bool (&steps)[kTurns], bool extra_steps) {
    const float* now = exchange_ + (t & 1) * kBuffer;
    float* next = exchange_ + (~t & 1) * kBuffer;
    Gates sum[kTurns] = {};
    float extra[kExtraTurns] = {};
    add_inputs(t, now, sum, extra);
    add_memory(now, sum, extra);
    if constexpr (kExtra) {
      float* gates = exchange_ + 2 * kBuffer;
#pragma unroll
      for (int k = 0; k < kTurns; ++k) gates[k * kWarp + lane_] = extra[k];
    }
    const int side = lane_ / kLanes;
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      float memory = memory_[k], h = h_[k];
      step_cell<kCell>(sum[k], bias_, memory, h);
      if (steps[k]) memory_[k] = memory, h_[k] = h;
      if (kUnits >= kWarp || unit_ < kUnits)
        next[(k * kSides + side) * kStreamFloats + unit_] = h_[k];
      if constexpr (kInputs > 1) fetch_inputs(k, t + 1, next + (k * kSides + side) * kStreamFloats);
    }
    if constexpr (kExtra) {
      wait_for_warp();
      const float4 four = load4(exchange_ + 2 * kBuffer + extra_turn_ * kWarp + lane_ / 4 * 4);
      float memory = extra_memory_, h = extra_h_;
      step_cell<kCell>({{four.x, four.y, four.z, four.w}}, extra_bias_, memory, h);
      if (extra_steps) extra_memory_ = memory, extra_h_ = h;
      if (extra_exists_) next[extra_turn_ * kStreamFloats + kWarp + lane_ / 4] = extra_h_;
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
        const float* place = now + (k * kSides + lane_ / kLanes) * kStreamFloats + kUnits;
#pragma unroll
        for (int i = 0; i < kInputs; i += 4) add_four(sum[k], &input_weights_[i], load4(place + i));
      }
    }
  }

  FXFAST_DEVICE void add_memory(const float* now, Gates (&sum)[kTurns],
                                float (&extra)[kExtraTurns]) const {
    const float* place = now + lane_ / kLanes * kStreamFloats;
#pragma unroll
    for (int u = 0; u < kUnits; u += 4) {
      float4 w = {};
      if constexpr (kExtra) w = load4(extra_weights_ + u * kWarp);
#pragma unroll
      for (int k = 0; k < kTurns; ++k) {
        const float4 h = load4(place + k * kSides * kStreamFloats + u);
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

  FXFAST_DEVICE void fetch_inputs(int k, int t, float* place) const {
    if (t >= samples_[k]) return;
#pragma unroll
    for (int i = unit_; i < kInputs; i += kLanes) {
      if (i < op_.in_channels) place[kUnits + i] = team_.row(stream_[k], op_.a, i)[t];
    }
  }

  FXFAST_DEVICE void keep() const {
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      if (samples_[k] == 0 || unit_ >= op_.out_channels) continue;
      float* cell = team_.state(stream_[k]) + op_.state + unit_;
      cell[0] = h_[k], cell[op_.out_channels] = memory_[k];
    }
    if constexpr (kExtra) {
      const int stream = extra_turn_ * (thread_count() / kWarp) + warp_;
      if (!extra_plays_ || team_.samples(stream) == 0) return;
      float* cell = team_.state(stream) + op_.state + kWarp + lane_ / 4;
      cell[0] = extra_h_, cell[op_.out_channels] = extra_memory_;
    }
  }

  const Team& team_;
  const CudaOp& op_;
  const int lane_, warp_, unit_;
  float* exchange_;             // of the warp
  const float* extra_weights_;  // of the lane
  float4 input_weights_[kInputs], weights_[kUnits];
  Gates bias_, extra_bias_;
  float h_[kTurns], memory_[kTurns];
  int stream_[kTurns], heard_from_[kTurns], samples_[kTurns];
  const float* input_[kTurns];
  float* output_[kTurns];
  float extra_h_ = 0.0f, extra_memory_ = 0.0f, extra_input_weight_ = 0.0f;
  float* extra_output_ = nullptr;
  int extra_turn_ = 0;
  bool extra_exists_ = false, extra_plays_ = false;
};

}  // namespace fxfast::cuda
