// Delay lines: the kernels against the reference, any split, settled, no allocation, bad numbers.
#include <algorithm>
#include <cmath>
#include <vector>

#include "allocation_counter.h"
#include "base/check.h"
#include "engine/delay.h"
#include "graphs.h"
#include "loaded.h"
#include "testing.h"

namespace {

using namespace fxfast;

// Two voices, one modulated by a table of 8 entries, a section, feedback.
std::vector<float> numbers(float points = 4.0f, float feedback = 0.5f, float base = 5.0f) {
  std::vector<float> found = {0.8f, 0.5f, 0.25f, feedback, points, 2.0f, 1.0f, 0.0f};
  const std::vector<float> fixed = {0.6f, 0.0f, base, 1.0f, 0, 0, 0, 0, 0, 0, 37.0f, 0.0f};
  // A step of 0.003 cycles, from a third of the first.
  const std::vector<float> moving = {-0.3f,    0.0f,     base,     8.0f,     196.0f, 39846.0f,
                                     58720.0f, 21845.0f, 21845.0f, 21845.0f, 38.0f,  0.0f};
  const std::vector<float> section = {0.1f, 1.2f, 0.5f, 0.3f, 0.4f};
  found.insert(found.end(), fixed.begin(), fixed.end());
  found.insert(found.end(), moving.begin(), moving.end());
  found.insert(found.end(), section.begin(), section.end());
  found.push_back(0.25f);
  for (float entry : {1.0f, 3.5f, 6.0f, 7.25f, 6.5f, 4.0f, 2.0f, 0.5f}) found.push_back(entry);
  return found;
}

Op delay_op(std::vector<float> params) {
  Op op;
  op.kind = OpKind::kDelay;
  op.in_channels = op.out_channels = 1;
  op.output.line = 1;
  op.params = std::move(params);
  return op;
}

Program delay_program(std::vector<float> params) {
  return {{1, 1}, {delay_op(std::move(params))}, 1};
}

TEST(delays_are_as_the_reference_on_every_isa) {
  const std::vector<float> input = testing::Noise(3).take(3000);
  for (float points : {2.0f, 4.0f}) {
    for (float feedback : {0.0f, 0.5f, -0.7f}) {
      const Program program = delay_program(numbers(points, feedback));
      const auto expected = testing::whole(program, reference_kernels(), input);
      testing::for_every_isa([&](const KernelTable& kernels) {
        const auto got = testing::whole(program, kernels, input);
        double error = 0.0, energy = 0.0;
        for (std::size_t t = 0; t < input.size(); ++t) {
          error += std::pow(static_cast<double>(got[t]) - static_cast<double>(expected[t]), 2);
          energy += std::pow(static_cast<double>(expected[t]), 2);
        }
        CHECK_LESS(std::sqrt(error / energy), 1e-6);
      });
    }
  }
}

TEST(delays_give_the_same_bits_for_any_split) {
  const std::vector<float> input = testing::Noise(4).take(2500);
  // A ring of 80 thousand samples, one of the shortest, and one that wraps many times.
  for (float base : {2.0f, 3.0f, 17.0f, 300.0f}) {
    const Program program = delay_program(numbers(4.0f, 0.5f, base));
    testing::for_every_isa([&](const KernelTable& kernels) {
      const auto expected = testing::whole(program, kernels, input);
      for (std::size_t block : {1u, 7u, 16u, 63u, 257u, 1000u}) {
        testing::Loaded loaded(program, kernels);
        std::vector<float> got(input.size());
        for (std::size_t t = 0; t < input.size(); t += block) {
          loaded.run(input.data() + t, got.data() + t, std::min(block, input.size() - t));
        }
        CHECK(got == expected);
      }
    });
  }
}

TEST(delays_allocate_nothing) {
  const std::vector<float> input = testing::Noise(5).take(2000);
  std::vector<float> output(input.size());
  testing::for_every_isa([&](const KernelTable& kernels) {
    testing::Loaded loaded(delay_program(numbers()), kernels);
    const std::size_t before = testing::allocations();
    loaded.run(input.data(), output.data(), input.size());
    CHECK(testing::allocations() == before);
  });
}

TEST(delays_behind_a_bias_start_settled) {
  testing::Noise noise(6);
  Program program = testing::stack({testing::conv(noise, 1, 1, 2, 1, Activation::kNone)});
  program.line_channels.push_back(1);
  Op op = delay_op(numbers());
  op.a.line = program.output_line;
  op.output.line = program.output_line = 2;
  program.ops.push_back(op);
  testing::for_every_isa([&](const KernelTable& kernels) {
    const auto quiet = testing::whole(program, kernels, std::vector<float>(4000, 0.0f));
    const auto [low, high] = std::minmax_element(quiet.begin(), quiet.end());
    CHECK(std::abs(*low) > 1e-3f);
    CHECK_LESS(static_cast<double>(*high) - static_cast<double>(*low), 1e-6);
  });
}

TEST(delays_of_bad_numbers_are_refused) {
  const auto refused = [](std::size_t place, float value, const char* text) {
    std::vector<float> bad = numbers();
    bad[place] = value;
    CHECK_THROWS(pack_plan(delay_program(bad)), ModelError, text);
  };
  refused(4, 3.0f, "2 or 4 points");
  refused(5, 17.0f, "1 to 16 voices");
  refused(6, 9.0f, "up to 8 sections");
  refused(3, 40.0f, "a feedback that dies away");
  refused(10, 0.0f, "a delay of a sample");
  refused(10, 0.5f, "whole numbers of 16 bits");
  refused(9, 65.0f, "a delay of up to 2^22 samples");
  refused(11, 3.0f, "a table of a power of two");
  refused(18, 90.0f, "a table among the numbers");
  refused(32, 0.0f, "sections with g and k above 0");
  refused(38, -1.0f, "a table from 0");
  refused(0, std::nanf(""), "finite values");
  std::vector<float> cut = numbers();
  cut.resize(20);
  CHECK_THROWS(pack_plan(delay_program(cut)), ModelError, "whole voices and sections");
}

TEST(delays_of_a_changed_plan_are_refused) {
  AlignedBuffer bytes = pack_plan(delay_program(numbers()));
  const PlanView plan(bytes.data(), bytes.size());
  auto* changed = reinterpret_cast<float*>(bytes.data() + plan.op(0).params_offset);
  changed[kShortest] += 1.0f;
  CHECK_THROWS(PlanView(bytes.data(), bytes.size()), ModelError, "another shortest delay");
  changed[kShortest] -= 1.0f;
  changed[10] = 6000.0f;
  CHECK_THROWS(PlanView(bytes.data(), bytes.size()), ModelError, "another ring of a delay");
}

}  // namespace
