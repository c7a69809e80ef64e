// Plans with a grid in absolute time: groups of operations, lines that cross them, ends of streams.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "allocation_counter.h"
#include "base/check.h"
#include "engine/render_array.h"
#include "graphs.h"
#include "loaded.h"
#include "testing.h"

namespace {

using namespace fxfast;
using testing::for_every_isa;
using testing::Loaded;
using testing::whole;

struct Case {
  Program program;
  PlanOptions options;
  std::size_t grid;
};

// Steps forced upon operations that need none: every arrangement of groups, with the samples of
// the plan without a grid, to the bit.
std::vector<Case> forced_cases() {
  return {{testing::small_graph(true), {true, {0, 96, 0, 64}, false}, 192},
          {testing::small_graph(), {true, {48, 48, 48, 48, 48}, false}, 48},
          {testing::small_graph(), {true, {0, 0, 0, 0, 496}, false}, 496},
          {testing::gated_graph(), {true, {0, 0, 48, 48, 0, 0, 16, 0, 0, 0}, false}, 48},
          {testing::gated_graph(), {true, {80, 16, 64}, false}, 320},
          {testing::recurrent_graph(Cell::kLstm, 9), {true, {0, 0, 0, 400}, false}, 400},
          {testing::recurrent_graph(Cell::kGru, 5), {true, {208, 0, 0, 32}, false}, 416}};
}

// One layer between two others, every convolution by transforms, and activations of every kind of
// last step.
Case transformed(int ins, int outs, int taps, Activation activation) {
  testing::Noise noise(static_cast<std::uint64_t>(ins * 1000 + outs * 10 + taps));
  return {testing::stack({testing::conv(noise, 1, ins, 3, 1, Activation::kTanh),
                          testing::conv(noise, ins, outs, taps, 1, activation),
                          testing::conv(noise, outs, 1, 4, 5, Activation::kNone)}),
          {true, {}, true},
          kLanePiece};
}

// With side paths: a mixture of layouts, operations in place, lines that both layouts use.
std::vector<Case> transform_cases() {
  Program with_recurrent = testing::recurrent_graph(Cell::kLstm, 3);
  return {transformed(16, 17, 17, Activation::kRelu),
          {testing::gated_graph(), {true, {}, true}, kLanePiece},
          {testing::small_graph(true), {true, {}, true}, kLanePiece},
          {testing::filter_graph(700, true), {true, {}, true}, kLanePiece},
          {with_recurrent, {true, {}, true}, kLanePiece}};
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = forced_cases();
  for (const Case& c : transform_cases()) cases.push_back(c);
  return cases;
}

TEST(transforms_equal_direct_convolutions) {
  const std::vector<float> input = testing::Noise(5).take(2 * kLanePiece + 1);
  const auto error_of = [&](const Case& c, const KernelTable& kernels) {
    const std::vector<float> direct = whole(c.program, kernels, input);
    const std::vector<float> got = whole(c.program, kernels, input, c.options);
    double error = 0.0;
    for (std::size_t t = 0; t < input.size(); ++t) {
      error = std::max(error, std::abs(static_cast<double>(got[t]) - direct[t]));
    }
    return error;
  };
  for_every_isa([&](const KernelTable& kernels) {
    if (kernels.vector_floats == 1) return;  // see below
    for (int ins : {1, 3, 16, 17, 32, 64}) {
      for (int outs : {1, 3, 16, 17, 32, 64}) {
        const int taps = ins % 2 == 0 ? (outs % 2 == 0 ? 17 : 9) : (outs % 2 == 0 ? 16 : 33);
        CHECK_LESS(error_of(transformed(ins, outs, taps, Activation::kRelu), kernels), 5e-6);
      }
    }
    for (int taps : {1, 2, 17, 18, 34, 35, 52, 112, 113}) {
      CHECK_LESS(error_of(transformed(5, 6, taps, Activation::kPrelu), kernels), 5e-6);
    }
    for (std::uint32_t a = 0; a < kActivationCount; ++a) {
      CHECK_LESS(error_of(transformed(3, 7, 9, static_cast<Activation>(a)), kernels), 5e-6);
    }
  });
  // The reference transforms by definition, which takes long.
  for (const Case& c :
       {transformed(3, 5, 17, Activation::kTanh), transformed(5, 2, 33, Activation::kPrelu)}) {
    CHECK_LESS(error_of(c, reference_kernels()), 2e-6);
  }
}

TEST(transforms_with_side_paths_equal_direct_convolutions) {
  const std::vector<float> input = testing::Noise(5).take(2 * kLanePiece + 1);
  for (const Case& c : transform_cases()) {
    for_every_isa([&](const KernelTable& kernels) {
      const std::vector<float> direct = whole(c.program, kernels, input);
      const std::vector<float> got = whole(c.program, kernels, input, c.options);
      double error = 0.0;
      for (std::size_t t = 0; t < input.size(); ++t) {
        error = std::max(error, std::abs(static_cast<double>(got[t]) - direct[t]));
      }
      CHECK_LESS(error, 5e-6);
    });
  }
}

TEST(a_convolution_with_too_long_a_history_stays_direct) {
  const Case c = transformed(4, 4, 114, Activation::kNone);
  const AlignedBuffer bytes = pack_plan(c.program, c.options);
  const PlanView plan(bytes.data(), bytes.size());
  int transforms = 0, direct = 0;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    if (plan.op(i).transform > 0) ++transforms;
    if (plan.op(i).taps == 114) direct += plan.op(i).lane_block == 0 ? 1 : 0;
  }
  CHECK(transforms == 1 && direct == 1);
  CHECK(plan.grid_samples() == kLanePiece);
}

TEST(only_what_gains_runs_by_transforms) {
  const auto transforms = [](const Program& program) {
    const AlignedBuffer bytes = pack_plan(program, {true, {}, false});
    const PlanView plan(bytes.data(), bytes.size());
    int count = 0;
    for (std::size_t i = 0; i < plan.op_count(); ++i) count += plan.op(i).transform > 0 ? 1 : 0;
    return count;
  };
  const auto none = Activation::kNone;
  testing::Noise noise(3);
  const auto middle = [&](int ins, int outs, int taps, int dilation) {
    return transforms(testing::stack({testing::conv(noise, 1, ins, 1, 1, none),
                                      testing::conv(noise, ins, outs, taps, dilation, none),
                                      testing::conv(noise, outs, 1, 1, 1, none)}));
  };
  CHECK(middle(64, 32, 17, 1) == 1);
  CHECK(middle(16, 16, 9, 1) == 1);
  CHECK(middle(64, 32, 17, 2) == 0);
  CHECK(middle(16, 16, 3, 1) == 0);
  CHECK(middle(2, 2, 9, 1) == 0);
  CHECK(transforms(testing::small_graph()) == 0);
}

TEST(a_grid_changes_no_bit_of_direct_operations) {
  for (const Case& c : forced_cases()) {
    for_every_isa([&](const KernelTable& kernels) {
      const std::vector<float> input = testing::Noise(5).take(3000);
      const Loaded loaded(c.program, kernels, c.options);
      CHECK(loaded.plan.grid_samples() == c.grid);
      // What never rests has heard another length of silence before it starts.
      if (loaded.plan.is_recurrent()) return;
      CHECK(whole(c.program, kernels, input, c.options) == whole(c.program, kernels, input));
    });
  }
}

TEST(every_split_on_the_grid_gives_the_same_bits) {
  for (const Case& c : all_cases()) {
    for_every_isa([&](const KernelTable& kernels) {
      const std::vector<float> all = testing::Noise(6).take(2 * c.grid + 700);
      for (std::size_t length :
           {std::size_t{0}, std::size_t{1}, c.grid - 1, c.grid, c.grid + 1, 2 * c.grid + 700}) {
        const std::vector<float> input(all.begin(), all.begin() + static_cast<long>(length));
        const std::vector<float> expected = whole(c.program, kernels, input, c.options);
        Loaded loaded(c.program, kernels, c.options);
        std::vector<float> output(length);
        for (std::size_t t = 0; t < length; t += c.grid) {
          loaded.run(&input[t], &output[t], std::min(c.grid, length - t));
        }
        CHECK(output == expected);
      }
    });
  }
}

TEST(threads_change_no_bit_of_a_plan_with_a_grid) {
  for (const Case& c : all_cases()) {
    for_every_isa([&](const KernelTable& kernels) {
      const std::size_t streams = 2, samples = kernels.vector_floats == 1 ? 9000 : 70001;
      const std::vector<float> input = testing::Noise(6).take(streams * samples);
      std::vector<float> one(input.size()), three(input.size());
      Loaded loaded(c.program, kernels, c.options);
      WorkerPool single(1), team(3);
      render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), one.data(),
                   streams, samples);
      render_array(loaded.plan, kernels, loaded.state.data(), team, input.data(), three.data(),
                   streams, samples);
      CHECK(one == three);
    });
  }
}

// Memory of another stream, here of NaN alone: what is copied into it is all that samples depend
// on.
TEST(states_that_are_used_again_change_no_bit) {
  std::vector<Case> cases = all_cases();
  for (const Program& program :
       {testing::small_graph(true), testing::gated_graph(),
        testing::recurrent_graph(Cell::kLstm, 9), testing::recurrent_graph(Cell::kGru, 70),
        testing::filter_graph(700, true)}) {
    cases.push_back({program, {}, 1});
  }
  for (int taps : {5000, 140000}) {
    for (bool around : {false, true}) {
      cases.push_back({testing::filter_graph(taps, around), {true, {}, false}, 1});
    }
  }
  for (const Case& c : cases) {
    for_every_isa([&](const KernelTable& kernels) {
      if (kernels.vector_floats == 1 && c.program.ops[0].weight.size() > 100000) return;
      Loaded loaded(c.program, kernels, c.options);
      const std::size_t grid = loaded.plan.grid_samples();
      const std::size_t samples = grid + std::min<std::size_t>(grid / 2, 9001) + 1501;
      const std::vector<float> input = testing::Noise(6).take(2 * samples);
      std::vector<float> fresh(input.size()), again(input.size());
      WorkerPool single(1);
      render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), fresh.data(), 2,
                   samples);
      std::vector<AlignedBuffer> kept;
      for (int s = 0; s < 2; ++s) {
        kept.emplace_back(loaded.plan.state_bytes());
        std::memset(kept.back().data(), 0xff, kept.back().size());
      }
      render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), again.data(), 2,
                   samples, &kept);
      CHECK(fresh == again);
    });
  }
}

TEST(a_part_of_a_grid_ends_a_stream) {
  const Case c = forced_cases()[0];
  Loaded loaded(c.program, reference_kernels(), c.options);
  std::vector<float> audio(c.grid + 1);
  check_block(loaded.plan, loaded.state.data(), audio.size());
  loaded.run(audio.data(), audio.data(), c.grid);
  check_block(loaded.plan, loaded.state.data(), audio.size());
  loaded.run(audio.data(), audio.data(), c.grid + 1);
  check_block(loaded.plan, loaded.state.data(), 0);
  CHECK_THROWS(check_block(loaded.plan, loaded.state.data(), 1), InputError,
               "no multiple of 192 (grid_samples) and ends the stream, got 1");
  check_state(loaded.plan, loaded.state.data(), loaded.state.size());
  settle(loaded.plan, reference_kernels(), loaded.state.data());
  check_block(loaded.plan, loaded.state.data(), 1);
}

TEST(the_reach_covers_a_whole_step_of_every_operation) {
  const Case c = forced_cases()[0];  // receptive field 42
  const AlignedBuffer bytes = pack_plan(c.program, c.options);
  const PlanView plan(bytes.data(), bytes.size());
  CHECK(plan.header().reach == 41 + 95 + 63);
  CHECK(plan.warm_up_samples() == 2 * 192);
  CHECK(plan.receptive_field() == 42);
  const AlignedBuffer direct = pack_plan(c.program);
  CHECK(PlanView(direct.data(), direct.size()).warm_up_samples() == 41);
}

TEST(an_offline_plan_that_needs_no_grid_is_the_plan_of_a_stream) {
  const AlignedBuffer direct = pack_plan(testing::gated_graph());
  const AlignedBuffer offline = pack_plan(testing::gated_graph(), {true, {}, false});
  CHECK(direct.size() == offline.size());
  CHECK(std::memcmp(direct.data(), offline.data(), direct.size()) == 0);
}

TEST(a_grid_beyond_the_limit_is_refused) {
  CHECK_THROWS(pack_plan(testing::small_graph(), {true, {65552, 65536}, false}), ModelError,
               "grid: expected at most 4194304 samples");
  CHECK_THROWS(pack_plan(testing::small_graph(), {true, {100}, false}), ModelError, "of a vector");
}

// As in test_plan.cpp: nothing is read outside, whatever byte of the tables changes.
TEST(damaged_plans_with_a_grid_are_refused) {
  for (const Case& c : all_cases()) {
    const AlignedBuffer plan = pack_plan(c.program, c.options);
    const PlanView whole_plan(plan.data(), plan.size());
    const std::size_t tables = sizeof(PlanHeader) + whole_plan.line_count() * sizeof(PlanLine) +
                               whole_plan.op_count() * sizeof(PlanOp);
    std::size_t accepted = 0;
    for (std::size_t at = 0; at < tables; ++at) {
      AlignedBuffer damaged(plan.size());
      std::memcpy(damaged.data(), plan.data(), plan.size());
      damaged.data()[at] ^= std::byte{0x05};
      try {
        const PlanView view(damaged.data(), damaged.size());
        AlignedBuffer state(view.state_bytes());
        settle(view, portable_kernels(), state.data());
        ++accepted;
      } catch (const ModelError&) {
      }
    }
    CHECK(accepted < tables / 5);
  }
}

TEST(run_block_with_a_grid_allocates_nothing) {
  for (const Case& c : all_cases()) {
    Loaded loaded(c.program, portable_kernels(), c.options);
    const std::vector<float> input = testing::Noise(4).take(2 * c.grid + 1);
    std::vector<float> output(input.size());
    const long before = testing::allocations();
    loaded.run(input.data(), output.data(), input.size());
    CHECK(testing::allocations() == before);
  }
}

}  // namespace
