// Packing, and refusing plans and graphs that are not whole.
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/packed_plan.h"
#include "engine/stream_state.h"
#include "graphs.h"
#include "kernels/choose_isa.h"
#include "testing.h"

namespace {

using namespace fxfast;

std::string refusal(const Program& program) {
  try {
    pack_plan(program);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(a_packed_plan_is_accepted_and_knows_its_receptive_field) {
  const Program program = testing::small_graph();
  const AlignedBuffer plan = pack_plan(program);
  const PlanView view(plan.data(), plan.size());
  CHECK(view.op_count() == program.ops.size());
  CHECK(view.receptive_field() == 1 + 4 + 14 + 13 + 0 + 10);
  CHECK(view.multiply_adds_per_sample() == 5 * 11 + 3 * 88 + 2 * 72 + 36 + 44);
  const AlignedBuffer gated = pack_plan(testing::gated_graph());
  CHECK(PlanView(gated.data(), gated.size()).receptive_field() == 1 + 18 + 6);
}

TEST(a_program_with_a_wrong_field_is_refused_by_name) {
  Program program;
  CHECK(contains(refusal(program), "lines: expected 1"));
  const auto changed = [](auto change) {
    Program copy = testing::small_graph();
    change(copy);
    return refusal(copy);
  };
  CHECK(contains(changed([](Program& p) { p.ops[1].dilation = 0; }), "ops[1].dilation"));
  CHECK(contains(changed([](Program& p) { p.ops[2].weight.pop_back(); }),
                 "ops[2].weight: expected 144 values, got 143"));
  CHECK(contains(changed([](Program& p) { p.ops[2].weight[5] = INFINITY; }),
                 "ops[2].weight: expected finite"));
  CHECK(contains(changed([](Program& p) { p.ops[0].params.pop_back(); }), "ops[0].params"));
  CHECK(contains(changed([](Program& p) { p.ops[1].taps = p.ops[1].dilation = 1 << 24; }),
                 "ops[1]."));
  CHECK(contains(changed([](Program& p) { p.line_channels[3] = 8; }), "beyond the channels"));
  CHECK(contains(changed([](Program& p) { p.output_line = 9; }), "output line"));
  CHECK(contains(changed([](Program& p) { p.output_line = 2; }), "more than one channel out"));
  CHECK(contains(changed([](Program& p) { p.ops[1].output.line = 1; }), "in place"));
  CHECK(contains(changed([](Program& p) { p.ops[0].a.line = 3; }), "before it is written"));
  CHECK(contains(changed([](Program& p) { p.ops[2].c = {1, 0}; }), "without use"));
  CHECK(contains(changed([](Program& p) { p.ops[3].output.line = 77; }), "beyond the lines"));
}

TEST(a_state_beyond_the_limit_is_refused_before_it_is_allocated) {
  testing::Noise noise(1);
  const Program program =
      testing::stack({testing::conv(noise, 1, 64, 1, 1, Activation::kNone),
                      testing::conv(noise, 64, 1, 2, 1 << 23, Activation::kNone)});
  CHECK_THROWS(pack_plan(program), ModelError, "state of one stream");
}

// Any changed byte of the header or the tables gives an error or a plan whose every offset still
// fits: the sanitizer builds of this test show that nothing is read outside.
int refused_changes(const Program& program, const PlanOptions& options = {}) {
  const AlignedBuffer plan = pack_plan(program, options);
  const PlanView whole(plan.data(), plan.size());
  const std::size_t tables = sizeof(PlanHeader) + whole.line_count() * sizeof(PlanLine) +
                             whole.op_count() * sizeof(PlanOp);
  int accepted = 0;
  for (std::size_t at = 0; at < tables; ++at) {
    AlignedBuffer damaged(plan.size());
    std::memcpy(damaged.data(), plan.data(), plan.size());
    damaged.data()[at] ^= std::byte{0x05};
    try {
      const PlanView view(damaged.data(), damaged.size());
      AlignedBuffer state(view.state_bytes());
      settle(view, reference_kernels(), state.data());
      ++accepted;
    } catch (const ModelError&) {
    }
  }
  // Accepted are changes of the fingerprint, the receptive field, reserved words, and of choices
  // of equal size: an activation, a combination, a line or first channel that also fits.
  CHECK(accepted < static_cast<int>(tables) / 4);
  return static_cast<int>(tables) - accepted;
}

TEST(damaged_plans_are_refused) {
  CHECK(refused_changes(testing::small_graph(true)) > 400);
  CHECK(refused_changes(testing::gated_graph()) > 600);
  CHECK(refused_changes(testing::recurrent_graph(Cell::kGru, 3)) > 300);
  CHECK(refused_changes(testing::filter_graph(100, true)) > 500);
  CHECK(refused_changes(testing::filter_graph(300)) > 200);
  CHECK(refused_changes(testing::filter_graph(4096), {true, {}}) > 200);
  const AlignedBuffer plan = pack_plan(testing::small_graph());
  for (std::size_t size : {std::size_t{0}, std::size_t{8}, sizeof(PlanHeader), plan.size() - 1}) {
    CHECK_THROWS(PlanView(plan.data(), size), ModelError, "plan:");
  }
}

TEST(a_state_belongs_to_one_plan) {
  const AlignedBuffer plan = pack_plan(testing::small_graph());
  const PlanView view(plan.data(), plan.size());
  AlignedBuffer state(view.state_bytes());
  CHECK_THROWS(check_state(view, state.data(), state.size()), InputError, "this plan");
  settle(view, reference_kernels(), state.data());
  check_state(view, state.data(), state.size());
  CHECK_THROWS(check_state(view, state.data(), state.size() - 1), InputError, "bytes a stream");
  reinterpret_cast<StateHeader*>(state.data())->position = 1u << 30;
  CHECK_THROWS(check_state(view, state.data(), state.size()), InputError, "position");
}

}  // namespace
