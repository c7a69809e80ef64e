// Plans with a grid in absolute time: groups of operations, lines that cross them, ends of streams.
#include <algorithm>
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
  return {{testing::small_graph(true), {true, {0, 96, 0, 64}}, 192},
          {testing::small_graph(), {true, {48, 48, 48, 48, 48}}, 48},
          {testing::small_graph(), {true, {0, 0, 0, 0, 496}}, 496},
          {testing::gated_graph(), {true, {0, 0, 48, 48, 0, 0, 16, 0, 0, 0}}, 48},
          {testing::gated_graph(), {true, {80, 16, 64}}, 320},
          {testing::recurrent_graph(Cell::kLstm, 9), {true, {0, 0, 0, 400}}, 400},
          {testing::recurrent_graph(Cell::kGru, 5), {true, {208, 0, 0, 32}}, 416}};
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
  for (const Case& c : forced_cases()) {
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
  for (const Case& c : forced_cases()) {
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
  const AlignedBuffer offline = pack_plan(testing::gated_graph(), {true, {}});
  CHECK(direct.size() == offline.size());
  CHECK(std::memcmp(direct.data(), offline.data(), direct.size()) == 0);
}

TEST(a_grid_beyond_the_limit_is_refused) {
  CHECK_THROWS(pack_plan(testing::small_graph(), {true, {65552, 65536}}), ModelError,
               "grid: expected at most 4194304 samples");
  CHECK_THROWS(pack_plan(testing::small_graph(), {true, {100}}), ModelError, "of a vector");
}

// As in test_plan.cpp: nothing is read outside, whatever byte of the tables changes.
TEST(damaged_plans_with_a_grid_are_refused) {
  for (const Case& c : forced_cases()) {
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
  for (const Case& c : forced_cases()) {
    Loaded loaded(c.program, portable_kernels(), c.options);
    const std::vector<float> input = testing::Noise(4).take(2 * c.grid + 1);
    std::vector<float> output(input.size());
    const long before = testing::allocations();
    loaded.run(input.data(), output.data(), input.size());
    CHECK(testing::allocations() == before);
  }
}

}  // namespace
