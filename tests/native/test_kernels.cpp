// Every built instruction set against the reference, over shapes that straddle tiles.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "graphs.h"
#include "kernels/choose_isa.h"
#include "kernels/pack_weights.h"
#include "testing.h"

namespace {

using namespace fxfast;

struct Shape {
  int in, out, taps, dilation, samples;
};

// Rows padded as the contract asks; what lies outside is NaN, so that reading it shows.
struct Rows {
  Rows(int channels, int samples)
      : stride(samples + kMaxVectorFloats),
        values(static_cast<std::size_t>(channels) * static_cast<std::size_t>(stride),
               std::numeric_limits<float>::quiet_NaN()) {}
  float* row(int c) { return values.data() + static_cast<std::ptrdiff_t>(c) * stride; }
  int stride;
  std::vector<float> values;
};

std::vector<float> packed(const Op& layer) {
  std::vector<float> out(layer.weight.size());
  const std::ptrdiff_t terms = std::ptrdiff_t{layer.in_channels} * layer.taps;
  pack_weights({layer.weight.data(), layer.out_channels, layer.in_channels, layer.taps, terms,
                layer.taps, 1},
               out.data());
  return out;
}

std::vector<float> run(const KernelTable& kernels, const Op& layer, Rows& input, int samples) {
  Rows output(layer.out_channels, samples);
  const std::vector<float> weights = packed(layer);
  ConvTask task{};
  task.input = input.values.data();
  task.output = output.values.data();
  task.weights = weights.data();
  task.bias = layer.bias.data();
  task.params = layer.params.empty() ? nullptr : layer.params.data();
  task.input_stride = input.stride;
  task.output_stride = output.stride;
  task.in_channels = layer.in_channels;
  task.out_channels = layer.out_channels;
  task.taps = layer.taps;
  task.dilation = layer.dilation;
  task.samples = samples;
  task.activation = layer.activation;
  kernels.conv(task);
  std::vector<float> result;
  for (int o = 0; o < layer.out_channels; ++o) {
    result.insert(result.end(), output.row(o), output.row(o) + samples);
  }
  return result;
}

void check_shape(const KernelTable& kernels, const Shape& s, Activation activation) {
  testing::Noise noise(static_cast<std::uint64_t>(s.in * 131 + s.out * 17 + s.taps));
  const Op layer = testing::conv(noise, s.in, s.out, s.taps, s.dilation, activation);
  const int length = s.samples + (s.taps - 1) * s.dilation;
  Rows input(s.in, length);
  for (int i = 0; i < s.in; ++i) {
    for (int t = 0; t < length; ++t) input.row(i)[t] = noise.next();
  }
  const std::vector<float> expected = run(reference_kernels(), layer, input, s.samples);
  const std::vector<float> got = run(kernels, layer, input, s.samples);
  double error = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Written so that a NaN counts as an error.
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (!(difference <= error)) error = difference;
  }
  // Values are of order 1: a few float32 roundings of sums of up to 400 products.
  if (!(error < 2e-6)) {
    testing::fail(__FILE__, __LINE__,
                  std::string(kernels.name) + " in " + std::to_string(s.in) + " out " +
                      std::to_string(s.out) + " taps " + std::to_string(s.taps) + " samples " +
                      std::to_string(s.samples) + ": error " + std::to_string(error));
  }
}

template <typename Body>
void for_every_isa(Body body) {
  for (const KernelTable* kernels : built_kernels()) {
    if (machine_supports(*kernels)) body(*kernels);
  }
}

TEST(conv_equals_reference_for_every_shape) {
  for_every_isa([](const KernelTable& kernels) {
    for (int samples : {1, 7, 8, 9, 15, 16, 17, 47, 48, 49, 63, 64, 65, 200}) {
      for (int out = 1; out <= 17; ++out) {
        check_shape(kernels, {3, out, 3, 2, samples}, Activation::kNone);
      }
    }
    for (int in : {1, 2, 5, 63, 64, 65, 130}) {
      for (int taps : {1, 2, 3, 17, 70}) {
        if (in * taps <= 400) check_shape(kernels, {in, 9, taps, 3, 50}, Activation::kNone);
      }
    }
  });
}

// One output channel, where taps stand in the place of channels.
TEST(conv_with_one_output_equals_reference) {
  for_every_isa([](const KernelTable& kernels) {
    for (int samples : {1, 8, 17, 48, 191, 192, 193, 500}) {
      for (int taps : {3, 4, 7, 8, 9, 16, 21}) {
        for (int dilation : {1, 3, 9, 10, 64, 65, 300}) {
          check_shape(kernels, {8 + taps % 3, 1, taps, dilation, samples}, Activation::kPrelu);
        }
      }
    }
  });
}

TEST(activations_equal_reference) {
  for_every_isa([](const KernelTable& kernels) {
    for (std::uint32_t a = 0; a < kActivationCount; ++a) {
      for (int out : {1, 5, 8, 13}) {
        check_shape(kernels, {4, out, 3, 1, 61}, static_cast<Activation>(a));
      }
    }
  });
}

// The functions by themselves, through a convolution that copies: relative error, and no NaN
// for any finite input.
TEST(tanh_and_sigmoid_are_accurate_everywhere) {
  for_every_isa([](const KernelTable& kernels) {
    Op copy;
    copy.in_channels = copy.out_channels = copy.taps = 1;
    copy.weight = {1.0f};
    copy.bias = {0.0f};
    std::vector<float> inputs = {0.0f, -0.0f, 1e-30f, 3e38f, -3e38f};
    for (double x = 1e-6; x < 200.0; x *= 1.0007) {
      inputs.push_back(static_cast<float>(x));
      inputs.push_back(static_cast<float>(-x));
    }
    const int samples = static_cast<int>(inputs.size());
    Rows rows(1, samples);
    std::copy(inputs.begin(), inputs.end(), rows.row(0));
    for (Activation activation : {Activation::kTanh, Activation::kSigmoid}) {
      copy.activation = activation;
      const std::vector<float> got = run(kernels, copy, rows, samples);
      double worst = 0.0;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const double x = inputs[i];
        const bool is_tanh = activation == Activation::kTanh;
        const double expected = is_tanh ? std::tanh(x) : 1.0 / (1.0 + std::exp(-x));
        // Below 1e-36 the clamp shows. exp(x) in float32 is no better than the rounding of x *
        // log2(e): abs(x) / 2^24 more.
        const double unavoidable = is_tanh ? 0.0 : std::max(0.0, -x) * expected * 6e-8;
        const double error = std::abs(got[i] - expected) - unavoidable - 1e-36;
        const double relative = error / std::max(std::abs(expected), 1e-36);
        if (!(relative <= worst)) worst = relative;
      }
      // 8 units in the last place.
      CHECK_LESS(worst, 9.6e-7);
    }
  });
}

TEST(splitting_a_task_over_time_changes_no_bit) {
  for_every_isa([](const KernelTable& kernels) {
    testing::Noise noise(3);
    const Op layer = testing::conv(noise, 13, 11, 9, 4, Activation::kTanh);
    const int samples = 143, length = samples + 8 * 4;
    Rows input(13, length);
    for (int i = 0; i < 13; ++i) {
      for (int t = 0; t < length; ++t) input.row(i)[t] = noise.next();
    }
    const std::vector<float> whole = run(kernels, layer, input, samples);
    for (int first : {1, 5, 16, 47, 100}) {
      for (int begin = 0; begin < samples; begin += first) {
        const int n = std::min(first, samples - begin);
        Rows part(13, n + 8 * 4);
        for (int i = 0; i < 13; ++i) {
          std::copy(input.row(i) + begin, input.row(i) + begin + n + 8 * 4, part.row(i));
        }
        const std::vector<float> piece = run(kernels, layer, part, n);
        for (int o = 0; o < 11; ++o) {
          const float* expected = whole.data() + o * samples + begin;
          CHECK(std::equal(expected, expected + n, piece.data() + o * n));
        }
      }
    }
  });
}

TEST(multiply_add_burst_counts_its_work) {
  for_every_isa([](const KernelTable& kernels) {
    const double one = kernels.multiply_add_burst(1);
    CHECK(one >= 2.0 * kernels.vector_floats);
    CHECK(kernels.multiply_add_burst(10) == 10.0 * one);
  });
}

}  // namespace
