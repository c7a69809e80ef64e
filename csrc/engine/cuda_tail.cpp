#include "engine/cuda_tail.h"

#include <cmath>
#include <complex>

#include "kernels/cuda/cuda_program.h"

namespace fxfast {
namespace {

using cuda::kTailBins;
using cuda::kTailBlock;
using Complex = std::complex<double>;

Complex turn(int k) {
  const double angle = -2.0 * 3.14159265358979323846 * k / kTailBins;
  return {std::cos(angle), std::sin(angle)};
}

// The butterflies of transform_forth, in double.
void transform(std::vector<Complex>& x) {
  for (int half = kTailBins / 2; half >= 1; half /= 2) {
    for (int i = 0; i < kTailBins / 2; ++i) {
      const int k = i % half;
      const auto a = static_cast<std::size_t>((i - k) * 2 + k);
      const std::size_t b = a + static_cast<std::size_t>(half);
      const Complex difference = x[a] - x[b];
      x[a] += x[b];
      x[b] = difference * turn(k * (kTailBins / 2 / half));
    }
  }
}

}  // namespace

bool has_tail(const Op& op) { return op.kind == OpKind::kFilter && op.taps > kMaxCudaFilterTaps; }

Op head_of(const Op& op) {
  Op head = op;
  head.taps = kTailBlock;
  head.weight.assign(op.weight.end() - kTailBlock, op.weight.end());
  return head;
}

Program with_heads(const Program& program) {
  Program split{program.line_channels, {}, program.output_line};
  for (const Op& op : program.ops) {
    if (has_tail(op)) split.ops.push_back(head_of(op));
    split.ops.push_back(op);
  }
  return split;
}

std::int64_t tail_partitions(std::int64_t taps) { return (taps + kTailBlock - 1) / kTailBlock - 1; }

std::int64_t tail_state_floats(std::int64_t taps) {
  return 3 * kTailBlock + tail_partitions(taps) * 2 * kTailBins;
}

std::vector<float> tail_responses(const Op& op) {
  std::vector<float> packed;
  for (std::int64_t p = 1; p <= tail_partitions(op.taps); ++p) {
    std::vector<Complex> x(kTailBins);
    for (std::int64_t i = 0; i < kTailBlock; ++i) {
      const std::int64_t delay = p * kTailBlock + i;
      if (delay >= op.taps) break;
      x[static_cast<std::size_t>(i)] =
          static_cast<double>(op.weight[static_cast<std::size_t>(op.taps - 1 - delay)]);
    }
    transform(x);
    for (const Complex& value : x) {
      packed.push_back(static_cast<float>(value.real()));
      packed.push_back(static_cast<float>(value.imag()));
    }
  }
  return packed;
}

std::vector<float> tail_twiddles() {
  std::vector<float> packed;
  for (int k = 0; k < kTailBins / 2; ++k) {
    packed.push_back(static_cast<float>(turn(k).real()));
    packed.push_back(static_cast<float>(turn(k).imag()));
  }
  return packed;
}

}  // namespace fxfast
