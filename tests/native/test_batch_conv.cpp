// The batched convolution and its weight gradient against plain loops. The arrays end where the
// rows end, so that the address sanitizer sees one value too many.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/batch_conv.h"
#include "graphs.h"
#include "kernels/choose_isa.h"
#include "testing.h"

namespace {

using namespace fxfast;

using Floats = std::unique_ptr<float[]>;

Floats noise_floats(testing::Noise& noise, std::int64_t count) {
  Floats values(new float[static_cast<std::size_t>(count)]);
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = noise.next();
  return values;
}

struct Sizes {
  std::int64_t x, w, y;
};

Sizes sizes_of(const BatchShape& s) {
  return {s.batch * s.in_channels * s.in_samples,
          std::int64_t{s.out_channels} * s.in_channels * s.taps,
          s.batch * s.out_channels * s.out_samples};
}

double worst_difference(const float* got, const std::vector<double>& expected) {
  double worst = 0.0, largest = 1.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (!(difference <= worst)) worst = difference;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

// Calls body(index of y, of w, of x) for every product of the convolution.
template <typename Body>
void for_every_product(const BatchShape& s, std::int64_t zeros_before, Body body) {
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (int o = 0; o < s.out_channels; ++o) {
      for (int i = 0; i < s.in_channels; ++i) {
        for (int k = 0; k < s.taps; ++k) {
          for (std::int64_t t = 0; t < s.out_samples; ++t) {
            const std::int64_t at = t + std::int64_t{k} * s.dilation - zeros_before;
            if (at < 0 || at >= s.in_samples) continue;
            body(static_cast<std::size_t>((b * s.out_channels + o) * s.out_samples + t),
                 static_cast<std::size_t>((std::int64_t{o} * s.in_channels + i) * s.taps + k),
                 static_cast<std::size_t>((b * s.in_channels + i) * s.in_samples + at));
          }
        }
      }
    }
  }
}

void check(const BatchShape& s, const KernelTable& kernels, std::int64_t zeros_before) {
  testing::Noise noise(static_cast<std::uint64_t>(s.in_samples * 31 + s.taps));
  const Sizes sizes = sizes_of(s);
  const Floats x = noise_floats(noise, sizes.x), w = noise_floats(noise, sizes.w);
  const Floats y = noise_floats(noise, sizes.y);
  std::vector<double> expected(static_cast<std::size_t>(sizes.y));
  for_every_product(s, zeros_before, [&](std::size_t at_y, std::size_t at_w, std::size_t at_x) {
    expected[at_y] += static_cast<double>(w[at_w]) * static_cast<double>(x[at_x]);
  });
  const WeightView view = {w.get(),
                           s.out_channels,
                           s.in_channels,
                           s.taps,
                           std::ptrdiff_t{s.in_channels} * s.taps,
                           s.taps,
                           1};
  const BatchConv conv(s, kernels, view, nullptr, x.get(), zeros_before, y.get());
  conv.run(0, conv.items());
  CHECK_LESS(worst_difference(y.get(), expected), 2e-6);
  if (zeros_before > 0) return;

  const Floats grad_w = noise_floats(noise, sizes.w);
  std::vector<double> expected_grad(static_cast<std::size_t>(sizes.w));
  for_every_product(s, 0, [&](std::size_t at_y, std::size_t at_w, std::size_t at_x) {
    expected_grad[at_w] += static_cast<double>(y[at_y]) * static_cast<double>(x[at_x]);
  });
  const BatchWeightGrad grad(s, kernels, x.get(), y.get(), grad_w.get());
  for (std::int64_t item = grad.items() - 1; item >= 0; --item) grad.run(item, item + 1);
  CHECK_LESS(worst_difference(grad_w.get(), expected_grad), 2e-6);
}

TEST(batch_conv_and_weight_grad_equal_plain_loops) {
  for (const KernelTable* kernels : built_kernels()) {
    if (!machine_supports(*kernels)) continue;
    for (std::int64_t samples : {1, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 191, 192, 193, 400}) {
      check({2, samples + 8, samples, 3, 5, 5, 2}, *kernels, 0);
      check({1, samples + 16, samples, 9, 17, 17, 1}, *kernels, 0);
    }
    check({1, 2100 + 400, 2100, 1, 2, 3, 200}, *kernels, 0);
    check({3, 70, 70, 4, 1, 1, 1}, *kernels, 0);
  }
}

TEST(batch_conv_hears_zeros_around_its_rows) {
  for (const KernelTable* kernels : built_kernels()) {
    if (!machine_supports(*kernels)) continue;
    for (std::int64_t samples : {1, 5, 16, 100, 500}) {
      check({2, samples, samples + 12, 3, 5, 5, 3}, *kernels, 12);
      check({1, samples, samples + 600, 2, 9, 3, 300}, *kernels, 600);
    }
  }
}

}  // namespace
