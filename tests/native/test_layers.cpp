// Layers of WaveNets: every instruction set against the reference, which runs a layer's operations
// one by one, and which operations a plan takes for a layer.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/packed_plan.h"
#include "engine/run_block.h"
#include "engine/stream_state.h"
#include "graphs.h"
#include "kernels/choose_isa.h"
#include "testing.h"

namespace {

using namespace fxfast;

struct Net {
  int channels, taps, dilation, condition_channels;
  Activation activation;
};

Op at(Op op, std::uint32_t a, std::uint32_t b, std::uint32_t out) {
  op.a.line = a;
  op.b.line = b;
  op.output.line = out;
  return op;
}

Op without_bias(Op op) {
  op.bias.clear();
  return op;
}

Op add(int channels, std::uint32_t a, std::uint32_t b, std::uint32_t out) {
  Op op;
  op.kind = OpKind::kCombine;
  op.out_channels = channels;
  return at(op, a, b, out);
}

// Three layers between 1 -> channels and channels -> 1: a first, a middle and a last one.
Program wavenet(const Net& net) {
  testing::Noise noise(static_cast<std::uint64_t>(net.channels * 100 + net.taps));
  const int n = net.channels, c = net.condition_channels;
  const auto none = Activation::kNone;
  Program program;
  // x, condition, h, z, total, h2, z2, h3, z3, y
  program.line_channels = {1, c, n, n, n, n, n, n, n, 1};
  std::vector<Op>& ops = program.ops;
  ops.push_back(at(testing::conv(noise, 1, c, 2, 1, none), 0, kNoLine, 1));
  ops.push_back(at(testing::conv(noise, 1, n, 1, 1, none), 0, kNoLine, 2));
  std::uint32_t h = 2;
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    const std::uint32_t z = layer == 0 ? 4 : 4 + 2 * layer;
    const std::uint32_t a = layer == 0 ? 4 : z;
    ops.push_back(at(testing::conv(noise, n, n, net.taps, net.dilation, none), h, kNoLine, z));
    ops.push_back(at(without_bias(testing::conv(noise, c, n, 1, 1, net.activation)), 1, z, a));
    if (layer > 0) ops.push_back(add(n, 4, a, 4));
    if (layer == 2) break;
    const std::uint32_t next = 5 + 2 * layer;
    ops.push_back(at(testing::conv(noise, n, n, 1, 1, none), a, h, next));
    h = next;
  }
  ops.push_back(at(testing::conv(noise, n, 1, 1, 1, none), 4, kNoLine, 9));
  program.output_line = 9;
  return program;
}

class Plan {
 public:
  explicit Plan(const Program& program)
      : bytes_(pack_plan(program)), view_(bytes_.data(), bytes_.size()) {}
  const PlanView& view() const { return view_; }

 private:
  AlignedBuffer bytes_;
  PlanView view_;
};

std::vector<float> play(const PlanView& plan, const KernelTable& kernels,
                        const std::vector<float>& x, std::size_t block) {
  AlignedBuffer state(plan.state_bytes());
  settle(plan, kernels, state.data());
  std::vector<float> y(x.size());
  for (std::size_t t = 0; t < x.size(); t += block) {
    run_block(plan, kernels, state.data(), x.data() + t, y.data() + t,
              std::min(block, x.size() - t));
  }
  return y;
}

template <typename Body>
void for_every_isa(Body body) {
  for (const KernelTable* kernels : built_kernels()) {
    if (machine_supports(*kernels)) body(*kernels);
  }
}

void check_net(const Net& net, std::size_t samples) {
  const Plan plan(wavenet(net));
  const std::vector<float> x =
      testing::Noise(static_cast<std::uint64_t>(samples)).take(samples, 0.5f);
  const std::vector<float> expected = play(plan.view(), reference_kernels(), x, samples);
  double loudest = 1.0;
  for (float value : expected) loudest = std::max(loudest, std::abs(static_cast<double>(value)));
  for_every_isa([&](const KernelTable& kernels) {
    const std::vector<float> got = play(plan.view(), kernels, x, samples);
    double error = 0.0;
    for (std::size_t i = 0; i < samples; ++i) {
      const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
      if (!(difference <= error)) error = difference;
    }
    // A few float32 roundings of sums of up to 100 products, through three layers.
    if (!(error < 8e-6 * loudest)) {
      testing::fail(__FILE__, __LINE__,
                    std::string(kernels.name) + " channels " + std::to_string(net.channels) +
                        " taps " + std::to_string(net.taps) + " dilation " +
                        std::to_string(net.dilation) + " activation " +
                        std::to_string(static_cast<int>(net.activation)) + " samples " +
                        std::to_string(samples) + ": error " + std::to_string(error));
    }
  });
}

TEST(layers_equal_reference_for_every_size) {
  for (int channels : {1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 32}) {
    for (std::size_t samples : {1, 7, 15, 16, 17, 47, 48, 49, 192, 250}) {
      check_net({channels, 3, 5, 1, Activation::kTanh}, samples);
      check_net({channels, 2, 1, 3, Activation::kPrelu}, samples);
    }
  }
}

TEST(layers_equal_reference_for_every_dilation_and_length) {
  for (int dilation = 1; dilation <= 512; dilation *= 2) {
    check_net({dilation < 64 ? 16 : 5, 3, dilation, 1, Activation::kTanh}, 100);
  }
  for (int channels : {3, 8, 16}) {
    // Sums of one run, of whole runs, and of more.
    for (int taps : {1, 4, 8, 15, 21, 22}) {
      check_net({channels, taps, 7, 1, Activation::kTanh}, 100);
      check_net({channels, taps, 7, 2, Activation::kPrelu}, 100);
    }
  }
}

TEST(layers_equal_reference_for_every_activation) {
  for (std::uint32_t a = 0; a < kActivationCount; ++a) {
    for (int channels : {2, 6, 16}) {
      check_net({channels, 3, 2, 2, static_cast<Activation>(a)}, 113);
    }
  }
}

TEST(layers_are_the_same_for_any_split) {
  for (int channels : {2, 4, 6, 12, 16}) {
    for (Activation activation : {Activation::kTanh, Activation::kPrelu, Activation::kSigmoid}) {
      const Plan plan(wavenet({channels, 3, 9, 1, activation}));
      const std::vector<float> x = testing::Noise(5).take(700, 0.5f);
      for_every_isa([&](const KernelTable& kernels) {
        const std::vector<float> whole = play(plan.view(), kernels, x, x.size());
        for (std::size_t block : {1, 7, 16, 47, 48, 49, 192}) {
          CHECK(play(plan.view(), kernels, x, block) == whole);
        }
      });
    }
  }
}

std::vector<std::uint32_t> group_lengths(const Program& program) {
  const Plan plan(program);
  std::vector<std::uint32_t> lengths;
  for (std::size_t i = 0; i < plan.view().op_count();) {
    lengths.push_back(plan.view().op(i).layer.length);
    i += lengths.back();
  }
  return lengths;
}

using Lengths = std::vector<std::uint32_t>;

TEST(a_plan_finds_layers) {
  const Program program = wavenet({4, 3, 2, 1, Activation::kTanh});
  CHECK((group_lengths(program) == Lengths{1, 1, 3, 4, 3, 1}));
}

// What a layer leaves unwritten is not needed, or else it is no layer.
TEST(a_plan_finds_no_layer_where_somebody_reads_inside) {
  const Program program = wavenet({4, 3, 2, 1, Activation::kTanh});
  Program z_is_read = program;
  z_is_read.ops[6].output.line = 8;  // a of the second layer elsewhere; its z stays and is added
  z_is_read.ops[7].b.line = 8;
  z_is_read.ops[8].a.line = 8;
  CHECK((group_lengths(z_is_read) == Lengths{1, 1, 3, 4, 3, 1}));
  z_is_read.ops.insert(z_is_read.ops.end() - 1, add(4, 4, 6, 4));
  CHECK((group_lengths(z_is_read) == Lengths{1, 1, 3, 1, 1, 1, 1, 3, 1, 1}));
  Program a_is_read = program;
  a_is_read.ops.insert(a_is_read.ops.end() - 1, add(4, 4, 6, 4));
  CHECK((group_lengths(a_is_read) == Lengths{1, 1, 3, 1, 1, 1, 1, 3, 1, 1}));
  Program has_bias = program;
  has_bias.ops[6].bias = {0.0f, 0.1f, 0.0f, 0.0f};
  CHECK((group_lengths(has_bias) == Lengths{1, 1, 3, 1, 1, 1, 1, 3, 1}));
  Program is_wide = wavenet({kMaxLayerChannels + 1, 1, 1, 1, Activation::kTanh});
  CHECK(group_lengths(is_wide).size() == is_wide.ops.size());
}

TEST(a_plan_with_other_layers_is_refused) {
  const AlignedBuffer plan = pack_plan(wavenet({4, 3, 2, 1, Activation::kTanh}));
  AlignedBuffer other(plan.size());
  std::copy_n(plan.data(), plan.size(), other.data());
  const std::size_t lines = PlanView(plan.data(), plan.size()).line_count();
  auto* ops =
      reinterpret_cast<PlanOp*>(other.data() + sizeof(PlanHeader) + lines * sizeof(PlanLine));
  ops[2].layer.length = 1;
  CHECK_THROWS(PlanView(other.data(), other.size()), ModelError, "layers that do not fit");
}

}  // namespace
