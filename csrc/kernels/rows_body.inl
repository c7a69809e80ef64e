// Activations and combinations of rows, compiled per instruction set right after kernels_body.inl
// and under the same rules. Each value depends on its own column alone, so any split over time
// gives the same bits.

namespace FXFAST_ISA_NAMESPACE {

template <Vec (*kFunction)(Vec)>
void map_rows(const ActivateTask& task) noexcept {
  for (int m = 0; m < task.channels; ++m) {
    const float* x = task.input + m * task.input_stride;
    float* y = task.output + m * task.output_stride;
    for (int t = 0; t < task.samples; t += kVec) store(y + t, kFunction(load(x + t)));
  }
}

static FXFAST_INLINE Vec identity_of(Vec x) { return x; }
static FXFAST_INLINE Vec relu_of(Vec x) { return select(x > 0.0f, x, Vec{}); }

void prelu_rows(const ActivateTask& task) noexcept {
  for (int m = 0; m < task.channels; ++m) {
    const float* x = task.input + m * task.input_stride;
    float* y = task.output + m * task.output_stride;
    for (int t = 0; t < task.samples; t += kVec) {
      store(y + t, finish<Epilogue::kPrelu>(load(x + t), task.params + m));
    }
  }
}

void leaky_hardtanh_rows(const ActivateTask& task) noexcept {
  const Vec low = broadcast(task.params[0]), high = broadcast(task.params[1]);
  const Vec low_slope = broadcast(task.params[2]), high_slope = broadcast(task.params[3]);
  for (int m = 0; m < task.channels; ++m) {
    const float* x = task.input + m * task.input_stride;
    float* y = task.output + m * task.output_stride;
    for (int t = 0; t < task.samples; t += kVec) {
      const Vec v = load(x + t);
      const Vec below = (v - low) * low_slope + low, above = (v - high) * high_slope + high;
      store(y + t, select(v < low, below, select(v > high, above, v)));
    }
  }
}

void activate(const ActivateTask& task) noexcept {
  switch (task.activation) {
    case Activation::kNone: return map_rows<identity_of>(task);
    case Activation::kRelu: return map_rows<relu_of>(task);
    case Activation::kPrelu: return prelu_rows(task);
    case Activation::kTanh: return map_rows<tanh_of>(task);
    case Activation::kSigmoid: return map_rows<sigmoid_of>(task);
    case Activation::kHardtanh: return map_rows<hardtanh_of>(task);
    case Activation::kFasttanh: return map_rows<fasttanh_of>(task);
    case Activation::kSilu: return map_rows<silu_of>(task);
    case Activation::kHardswish: return map_rows<hardswish_of>(task);
    case Activation::kLeakyHardtanh: return leaky_hardtanh_rows(task);
    case Activation::kSoftsign: return map_rows<softsign_of>(task);
  }
}

template <Combine kCombine>
void combine_rows(const CombineTask& task) noexcept {
  for (int m = 0; m < task.channels; ++m) {
    const float* a = task.a + m * task.a_stride;
    const float* b = task.b + m * task.b_stride;
    const float* c = reads_c(kCombine) ? task.c + m * task.c_stride : nullptr;
    float* y = task.output + m * task.output_stride;
    for (int t = 0; t < task.samples; t += kVec) {
      const Vec x = load(a + t), v = load(b + t);
      if constexpr (kCombine == Combine::kAdd) store(y + t, x + v);
      if constexpr (kCombine == Combine::kMultiply) store(y + t, x * v);
      if constexpr (kCombine == Combine::kScaleShift) store(y + t, x * v + load(c + t));
      if constexpr (kCombine == Combine::kBlend) store(y + t, x * v + load(c + t) * (1.0f - v));
    }
  }
}

void combine(const CombineTask& task) noexcept {
  switch (task.combine) {
    case Combine::kAdd: return combine_rows<Combine::kAdd>(task);
    case Combine::kMultiply: return combine_rows<Combine::kMultiply>(task);
    case Combine::kScaleShift: return combine_rows<Combine::kScaleShift>(task);
    case Combine::kBlend: return combine_rows<Combine::kBlend>(task);
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
