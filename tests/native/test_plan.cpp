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

std::string refusal(ModelGraph graph) {
  try {
    validate(graph);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(a_packed_plan_is_accepted_and_knows_its_receptive_field) {
  const ModelGraph graph = testing::small_graph();
  const AlignedBuffer plan = pack_plan(graph);
  const PlanView view(plan.data(), plan.size());
  CHECK(view.layer_count() == graph.layers.size());
  CHECK(view.receptive_field() == graph.receptive_field());
  CHECK(view.receptive_field() == 1 + 4 + 14 + 13 + 0 + 10);
}

TEST(a_graph_with_a_wrong_field_is_refused_by_name) {
  ModelGraph graph;
  CHECK(contains(refusal(graph), "layers: expected 1"));
  graph = testing::small_graph();
  graph.layers[1].dilation = 0;
  CHECK(contains(refusal(graph), "layers[1].dilation"));
  graph = testing::small_graph();
  graph.layers[2].weight.pop_back();
  CHECK(contains(refusal(graph), "layers[2].weight: expected 144 values, got 143"));
  graph = testing::small_graph();
  graph.layers[2].weight[5] = INFINITY;
  CHECK(contains(refusal(graph), "layers[2].weight: expected finite"));
  graph = testing::small_graph();
  graph.layers[0].slopes.pop_back();
  CHECK(contains(refusal(graph), "layers[0].slopes"));
  graph = testing::small_graph();
  graph.layers.pop_back();
  CHECK(contains(refusal(graph), "out_channels: expected 1"));
  graph = testing::small_graph();
  graph.layers[1].taps = 1 << 24;
  graph.layers[1].dilation = 1 << 24;
  CHECK(contains(refusal(graph), "layers[1].weight"));
}

TEST(a_state_beyond_the_limit_is_refused_before_it_is_allocated) {
  testing::Noise noise(1);
  ModelGraph graph;
  graph.layers.push_back(testing::conv(noise, 1, 64, 1, 1, Activation::kNone));
  graph.layers.push_back(testing::conv(noise, 64, 1, 2, 1 << 23, Activation::kNone));
  CHECK_THROWS(pack_plan(graph), ModelError, "state of one stream");
}

// Any changed byte of the header or the layer table gives an error or a plan whose every
// offset still fits: the sanitizer builds of this test show that nothing is read outside.
TEST(damaged_plans_are_refused) {
  const AlignedBuffer plan = pack_plan(testing::small_graph());
  const std::size_t table = sizeof(PlanHeader) + 5 * sizeof(PlanLayer);
  int refused = 0;
  for (std::size_t at = 0; at < table; ++at) {
    AlignedBuffer damaged(plan.size());
    std::memcpy(damaged.data(), plan.data(), plan.size());
    damaged.data()[at] ^= std::byte{0x41};
    try {
      const PlanView view(damaged.data(), damaged.size());
      AlignedBuffer state(view.state_bytes());
      settle(view, reference_kernels(), state.data());
    } catch (const ModelError&) {
      ++refused;
    }
  }
  // Accepted are only changes of the fingerprint, the skip flag, the reserved word and of an
  // activation into another without slopes.
  CHECK(refused >= static_cast<int>(table) - 40);
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
