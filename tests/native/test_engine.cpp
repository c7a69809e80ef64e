// The promises of the engine: same bits whatever the split, settled start, no allocation.
#include <algorithm>
#include <cmath>
#include <vector>

#include "allocation_counter.h"
#include "engine/render_array.h"
#include "engine/run_block.h"
#include "graphs.h"
#include "kernels/choose_isa.h"
#include "loaded.h"
#include "testing.h"

namespace {

using namespace fxfast;
using testing::for_every_isa;
using testing::Loaded;
using testing::whole;

TEST(every_split_into_blocks_gives_the_same_bits) {
  for (const Program& graph :
       {testing::small_graph(true), testing::gated_graph(),
        testing::recurrent_graph(Cell::kLstm, 17), testing::recurrent_graph(Cell::kGru, 9)}) {
    for_every_isa([&](const KernelTable& kernels) {
      const std::vector<float> input = testing::Noise(5).take(3000);
      const std::vector<float> expected = whole(graph, kernels, input);
      for (std::size_t block : {1u, 7u, 8u, 9u, 48u, 63u, 64u, 65u, 192u, 193u, 1000u}) {
        Loaded loaded(graph, kernels);
        std::vector<float> output(input.size());
        for (std::size_t t = 0; t < input.size(); t += block) {
          loaded.run(&input[t], &output[t], std::min(block, input.size() - t));
        }
        CHECK(output == expected);
      }
    });
  }
}

double worst_error(const Program& graph, const KernelTable& kernels) {
  const std::vector<float> input = testing::Noise(12).take(1000);
  const std::vector<float> expected = whole(graph, reference_kernels(), input);
  const std::vector<float> got = whole(graph, kernels, input);
  double error = 0.0;
  for (std::size_t t = 0; t < input.size(); ++t) {
    error = std::max(error, std::abs(static_cast<double>(got[t]) - expected[t]));
  }
  return error;
}

TEST(gated_graph_equals_reference_kernels) {
  for_every_isa([](const KernelTable& kernels) {
    CHECK_LESS(worst_error(testing::gated_graph(), kernels), 3e-6);
  });
}

TEST(recurrent_layers_equal_reference_kernels) {
  for_every_isa([](const KernelTable& kernels) {
    for (int units : {1, 2, 7, 8, 9, 15, 16, 17, 33, 40}) {
      for (Cell cell : {Cell::kLstm, Cell::kGru}) {
        CHECK_LESS(worst_error(testing::recurrent_graph(cell, units), kernels), 3e-6);
      }
    }
  });
}

TEST(a_recurrent_stream_starts_settled) {
  for_every_isa([](const KernelTable& kernels) {
    for (Cell cell : {Cell::kLstm, Cell::kGru}) {
      const std::vector<float> silence(500, 0.0f);
      const std::vector<float> output = whole(testing::recurrent_graph(cell, 8), kernels, silence);
      double drift = 0.0;
      for (float y : output) drift = std::max(drift, std::abs(static_cast<double>(y) - output[0]));
      CHECK_LESS(drift, 1e-6);
    }
  });
}

TEST(threads_and_segments_change_no_bit) {
  for_every_isa([](const KernelTable& kernels) {
    const bool is_slow = kernels.vector_floats == 1;
    const std::size_t streams = 3, samples = is_slow ? 9000 : 50000;
    for (const Program& graph : {testing::small_graph(), testing::recurrent_graph(Cell::kGru, 5)}) {
      Loaded loaded(graph, kernels);
      const std::vector<float> input = testing::Noise(6).take(streams * samples);
      std::vector<float> one(input.size()), three(input.size());
      WorkerPool single(1), team(3);
      render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), one.data(),
                   streams, samples);
      render_array(loaded.plan, kernels, loaded.state.data(), team, input.data(), three.data(),
                   streams, samples);
      CHECK(one == three);
    }
  });
}

TEST(in_place_gives_the_same_bits) {
  const Program graph = testing::small_graph(true);
  std::vector<float> audio = testing::Noise(8).take(500);
  const std::vector<float> expected = whole(graph, choose_kernels(nullptr), audio);
  Loaded loaded(graph, choose_kernels(nullptr));
  loaded.run(audio.data(), audio.data(), audio.size());
  CHECK(audio == expected);
}

// Silence before the sound changes nothing: the start is the steady state on silence. With
// biases that state is not zero.
TEST(a_stream_starts_settled) {
  const Program graph = testing::small_graph();
  for_every_isa([&](const KernelTable& kernels) {
    const std::vector<float> sound = testing::Noise(9).take(300);
    std::vector<float> late(400, 0.0f);
    late.insert(late.end(), sound.begin(), sound.end());
    const std::vector<float> now = whole(graph, kernels, sound);
    const std::vector<float> after = whole(graph, kernels, late);
    CHECK(std::equal(now.begin(), now.end(), after.begin() + 400));
    CHECK(std::all_of(after.begin(), after.begin() + 400,
                      [&](float y) { return y == after[0] && y != 0.0f; }));
  });
}

TEST(the_output_is_aligned_with_the_input) {
  testing::Noise noise(2);
  Op delay = testing::conv(noise, 1, 1, 4, 5, Activation::kNone);
  delay.weight = {1.0f, 0.0f, 0.0f, 0.5f};  // 0.5 now, 1 after 15 samples
  delay.bias = {0.0f};
  const Program graph = testing::stack({delay});
  for_every_isa([&](const KernelTable& kernels) {
    std::vector<float> impulse(40, 0.0f);
    impulse[3] = 1.0f;
    const std::vector<float> response = whole(graph, kernels, impulse);
    for (std::size_t t = 0; t < response.size(); ++t) {
      CHECK(response[t] == (t == 3 ? 0.5f : t == 18 ? 1.0f : 0.0f));
    }
  });
}

TEST(run_block_allocates_nothing) {
  const auto allocates_nothing = [](const Program& graph, const KernelTable& kernels) {
    Loaded loaded(graph, kernels);
    const std::vector<float> input = testing::Noise(4).take(2000);
    std::vector<float> output(input.size());
    const long before = testing::allocations();
    loaded.run(input.data(), output.data(), input.size());
    for (std::size_t t = 0; t < 300; ++t) loaded.run(&input[t], &output[t], 1);
    CHECK(testing::allocations() == before);
  };
  for_every_isa([&](const KernelTable& kernels) {
    allocates_nothing(testing::small_graph(true), kernels);
    allocates_nothing(testing::gated_graph(), kernels);
    allocates_nothing(testing::recurrent_graph(Cell::kLstm, 16), kernels);
  });
}

TEST(the_allocation_counter_counts) {
  const long before = testing::allocations();
  const std::vector<float> vector(10);  // a volatile-free new may be optimised away, this is used
  const AlignedBuffer buffer(vector.size());
  CHECK(testing::allocations() == before + 2);
}

// Saturating nets stay finite, and denormal input is silence to the engine.
TEST(finite_input_gives_finite_output) {
  Program graph = testing::small_graph();
  for (Op& op : graph.ops) {
    for (float& w : op.weight) w *= 100.0f;
  }
  for_every_isa([&](const KernelTable& kernels) {
    std::vector<float> input = testing::Noise(10).take(500, 1e6f);
    for (float y : whole(graph, kernels, input)) CHECK(std::isfinite(y));
  });
}

}  // namespace
