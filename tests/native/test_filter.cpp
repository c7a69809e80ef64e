// Long filters: right to float accuracy, the same bits whatever the split, settled, bounded.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "allocation_counter.h"
#include "base/check.h"
#include "engine/filter.h"
#include "engine/render_array.h"
#include "engine/run_block.h"
#include "graphs.h"
#include "kernels/choose_isa.h"
#include "kernels/pack_spectrum.h"
#include "testing.h"

namespace {

using namespace fxfast;

struct Loaded {
  Loaded(const Program& program, const KernelTable& table, bool is_offline = false)
      : bytes(pack_plan(program, {is_offline, {}})),
        plan(bytes.data(), bytes.size()),
        kernels(table),
        state(plan.state_bytes()) {
    settle(plan, kernels, state.data());
  }
  void run(const float* in, float* out, std::size_t n) {
    run_block(plan, kernels, state.data(), in, out, n);
  }
  AlignedBuffer bytes;
  PlanView plan;
  const KernelTable& kernels;
  AlignedBuffer state;
};

template <typename Body>
void for_every_isa(Body body) {
  for (const KernelTable* kernels : built_kernels()) {
    if (machine_supports(*kernels)) body(*kernels);
  }
}

std::vector<float> whole(const Program& program, const KernelTable& kernels,
                         const std::vector<float>& input, bool is_offline = false) {
  Loaded loaded(program, kernels, is_offline);
  std::vector<float> output(input.size());
  loaded.run(input.data(), output.data(), input.size());
  return output;
}

std::vector<double> direct(const Op& filter, const std::vector<float>& input) {
  std::vector<double> output(input.size());
  const auto taps = filter.weight.size();
  for (std::size_t t = 0; t < input.size(); ++t) {
    double sum = filter.bias[0];
    for (std::size_t n = 0; n < std::min(taps, t + 1); ++n) {
      sum += static_cast<double>(filter.weight[taps - 1 - n]) * input[t - n];
    }
    output[t] = sum;
  }
  return output;
}

// Lengths around the head, around every level's first and last partition.
const int kLengths[] = {1,   2,   63,  64,   65,   127,  128,  129,  191,  192,  500,  511,
                        512, 513, 575, 1087, 1088, 1089, 4095, 4096, 4097, 8191, 8193, 9000};

TEST(a_long_filter_is_a_convolution) {
  const std::vector<float> input = testing::Noise(3).take(13000);
  for (int taps : kLengths) {
    const Program program = testing::filter_graph(taps);
    const std::vector<double> expected = direct(program.ops[0], input);
    for_every_isa([&](const KernelTable& kernels) {
      const std::vector<float> got = whole(program, kernels, input);
      double squares = 0.0;
      for (std::size_t t = 0; t < input.size(); ++t) {
        squares += (got[t] - expected[t]) * (got[t] - expected[t]);
      }
      CHECK_LESS(std::sqrt(squares / static_cast<double>(input.size())), 3e-7);
    });
  }
}

TEST(every_split_of_a_long_filter_gives_the_same_bits) {
  for_every_isa([](const KernelTable& kernels) {
    const std::vector<float> input = testing::Noise(5).take(20000);
    for (const Program& program : {testing::filter_graph(65), testing::filter_graph(129),
                                   testing::filter_graph(700), testing::filter_graph(6000, true)}) {
      const std::vector<float> expected = whole(program, kernels, input);
      for (std::size_t block : {1u, 7u, 63u, 64u, 65u, 192u, 193u, 1000u}) {
        Loaded loaded(program, kernels);
        std::vector<float> output(input.size());
        for (std::size_t t = 0; t < input.size(); t += block) {
          loaded.run(&input[t], &output[t], std::min(block, input.size() - t));
        }
        CHECK(output == expected);
      }
    }
  });
}

TEST(threads_and_segments_of_a_long_filter_change_no_bit) {
  for_every_isa([](const KernelTable& kernels) {
    const std::size_t streams = 2, samples = 40000;
    const Loaded loaded(testing::filter_graph(300, true), kernels);
    const std::vector<float> input = testing::Noise(6).take(streams * samples);
    std::vector<float> one(input.size()), three(input.size());
    WorkerPool single(1), team(3);
    render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), one.data(),
                 streams, samples);
    render_array(loaded.plan, kernels, loaded.state.data(), team, input.data(), three.data(),
                 streams, samples);
    CHECK(one == three);
  });
}

// What is before the warm-up changes no bit, also where blocks of all sizes meet.
TEST(a_long_filter_forgets) {
  for (int taps : {100, 300, 4200, 45000}) {
    const Program program = testing::filter_graph(taps);
    const KernelTable& kernels = choose_kernels(nullptr);
    Loaded loaded(program, kernels);
    const auto warm_up = static_cast<std::size_t>(loaded.plan.warm_up_samples());
    const auto before = static_cast<std::size_t>(3 * loaded.plan.alignment_samples());
    const std::vector<float> input = testing::Noise(7).take(before + warm_up + 9000);
    std::vector<float> output(input.size()), late(warm_up + 9000);
    Loaded other(program, kernels);
    loaded.run(input.data(), output.data(), input.size());
    other.run(input.data() + before, late.data(), late.size());
    CHECK(std::equal(late.begin() + static_cast<std::ptrdiff_t>(warm_up), late.end(),
                     output.end() - 9000));
  }
}

TEST(a_long_filter_starts_settled) {
  for_every_isa([](const KernelTable& kernels) {
    const std::vector<float> silence(5000, 0.0f);
    const std::vector<float> output = whole(testing::filter_graph(1500, true), kernels, silence);
    double drift = 0.0;
    for (float y : output) drift = std::max(drift, std::abs(static_cast<double>(y) - output[0]));
    CHECK_LESS(drift, 2e-6);
  });
}

// A recurrent layer settles on its own time; the filter after it has to hear the end of that.
TEST(a_long_filter_after_a_recurrent_layer_starts_settled) {
  Program program = testing::recurrent_graph(Cell::kGru, 5);
  Op filter = testing::filter_graph(3000).ops[0];
  filter.a.line = program.output_line;
  filter.output.line = static_cast<std::uint32_t>(program.line_channels.size());
  program.line_channels.push_back(1);
  program.output_line = filter.output.line;
  program.ops.push_back(filter);
  const std::vector<float> output =
      whole(program, choose_kernels(nullptr), std::vector<float>(6000, 0.0f));
  double drift = 0.0;
  for (float y : output) drift = std::max(drift, std::abs(static_cast<double>(y) - output[0]));
  CHECK_LESS(drift, 1e-5);
}

TEST(a_saved_stream_of_a_long_filter_goes_on) {
  for_every_isa([](const KernelTable& kernels) {
    const Program program = testing::filter_graph(5000);
    const std::vector<float> input = testing::Noise(8).take(12000);
    const std::vector<float> expected = whole(program, kernels, input);
    Loaded first(program, kernels), second(program, kernels);
    std::vector<float> output(input.size());
    first.run(input.data(), output.data(), 7001);
    check_state(second.plan, first.state.data(), first.state.size());
    std::copy_n(first.state.data(), first.state.size(), second.state.data());
    second.run(&input[7001], &output[7001], input.size() - 7001);
    CHECK(output == expected);
  });
}

TEST(a_long_filter_allocates_nothing) {
  for_every_isa([](const KernelTable& kernels) {
    Loaded loaded(testing::filter_graph(5000, true), kernels);
    const std::vector<float> input = testing::Noise(4).take(9000);
    std::vector<float> output(input.size());
    const long before = testing::allocations();
    loaded.run(input.data(), output.data(), input.size());
    CHECK(testing::allocations() == before);
  });
}

// Any position that a damaged state may hold reads and writes inside the state.
TEST(a_filter_of_any_position_stays_in_its_state) {
  const Program program = testing::filter_graph(5000);
  const std::vector<float> input = testing::Noise(9).take(500);
  for (std::uint64_t position : {~std::uint64_t{0}, ~std::uint64_t{63}, std::uint64_t{4095}}) {
    Loaded loaded(program, choose_kernels(nullptr));
    std::memcpy(loaded.state.data() + loaded.plan.op(0).cell_offset, &position, sizeof(position));
    std::vector<float> output(input.size());
    loaded.run(input.data(), output.data(), input.size());
    CHECK(std::all_of(output.begin(), output.end(), [](float y) { return std::isfinite(y); }));
  }
}

TEST(a_filter_with_a_wrong_field_is_refused_by_name) {
  const auto refused = [](auto change, const char* message) {
    Program program = testing::filter_graph(100);
    change(program.ops[0]);
    CHECK_THROWS(pack_plan(program), ModelError, message);
  };
  refused([](Op& op) { op.taps = 99; }, "ops[0].weight: expected 99 values, got 100");
  refused([](Op& op) { op.taps = 0; }, "ops[0].taps: expected 1 to 16777216, got 0");
  refused([](Op& op) { op.in_channels = 2; }, "ops[0].in_channels: expected 1, got 2");
  refused([](Op& op) { op.dilation = 2; }, "ops[0].dilation: expected 1, got 2");
  refused([](Op& op) { op.activation = Activation::kTanh; }, "ops[0].activation: expected none");
  refused([](Op& op) { op.weight[3] = NAN; }, "ops[0].weight: expected finite");
  refused([](Op& op) { op.bias.push_back(1.0f); }, "ops[0].bias: expected 1 values, got 2");
}

TEST(levels_of_a_filter_hold_every_tap_once) {
  for (int taps = kMaxDirectTaps + 1; taps < 300000; taps += 1 + taps / 7) {
    const FilterLayout layout(taps);
    std::int64_t first = kFilterHeadTaps;
    for (int l = 0; l < layout.level_count; ++l) {
      CHECK(first == layout.levels[l].bins);
      first += std::int64_t{layout.levels[l].bins} * layout.levels[l].partitions;
    }
    CHECK(first >= taps && first - layout.grid_samples() < taps);
  }
}

// --- offline -------------------------------------------------------------------------------------

bool is_reference(const KernelTable& kernels) { return kernels.vector_floats == 1; }

double rms_of_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0.0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    const double difference = static_cast<double>(a[t]) - b[t];
    squares += difference * difference;
  }
  return std::sqrt(squares / static_cast<double>(a.size()));
}

// The stream of the same filter is tested against the sum itself.
TEST(an_offline_filter_is_the_filter_of_a_stream) {
  for_every_isa([](const KernelTable& kernels) {
    for (int taps : {4096, 4097, 20000, 140000, 270000}) {
      if (is_reference(kernels) && taps > 20000) continue;
      const Program program = testing::filter_graph(taps);
      const Loaded loaded(program, kernels, true);
      CHECK(loaded.plan.has_grid());
      const std::vector<float> input =
          testing::Noise(3).take(loaded.plan.grid_samples() * 5 / 2 + 77);
      CHECK_LESS(rms_of_difference(whole(program, kernels, input, true),
                                   whole(program, choose_kernels(nullptr), input)),
                 5e-7);
    }
  });
}

TEST(short_filters_have_no_grid) {
  const Loaded loaded(testing::filter_graph(4095), choose_kernels(nullptr), true);
  CHECK(!loaded.plan.has_grid());
}

TEST(every_split_of_an_offline_filter_into_grids_gives_the_same_bits) {
  for_every_isa([](const KernelTable& kernels) {
    const std::vector<int> lengths =
        is_reference(kernels) ? std::vector<int>{4100} : std::vector<int>{4100, 270000};
    for (int k = 0; k < 2 * static_cast<int>(lengths.size()); ++k) {
      // A filter alone plays grids where they are, whole ones that are not the first.
      const int taps = lengths[static_cast<std::size_t>(k / 2)];
      const Program program = testing::filter_graph(taps, k % 2 == 0);
      Loaded loaded(program, kernels, true);
      const std::size_t grid = loaded.plan.grid_samples();
      const std::vector<float> input = testing::Noise(5).take(grid * 3 + 1001);
      const std::vector<float> expected = whole(program, kernels, input, true);
      std::vector<float> output(input.size());
      for (std::size_t t = 0; t < input.size(); t += grid) {
        loaded.run(&input[t], &output[t], std::min(grid, input.size() - t));
      }
      CHECK(output == expected);
    }
  });
}

TEST(threads_and_segments_of_an_offline_filter_change_no_bit) {
  for_every_isa([](const KernelTable& kernels) {
    const std::size_t streams = 2, samples = is_reference(kernels) ? 30000 : 700000;
    const Loaded loaded(testing::filter_graph(4500, true), kernels, true);
    const std::vector<float> input = testing::Noise(6).take(streams * samples);
    std::vector<float> one(input.size()), three(input.size());
    WorkerPool single(1), team(3);
    render_array(loaded.plan, kernels, loaded.state.data(), single, input.data(), one.data(),
                 streams, samples);
    render_array(loaded.plan, kernels, loaded.state.data(), team, input.data(), three.data(),
                 streams, samples);
    CHECK(one == three);
  });
}

TEST(an_offline_filter_starts_settled_and_allocates_nothing) {
  for_every_isa([](const KernelTable& kernels) {
    Loaded loaded(testing::filter_graph(5000, true), kernels, true);
    const std::vector<float> silence(loaded.plan.grid_samples(), 0.0f);
    std::vector<float> output(silence.size());
    const long before = testing::allocations();
    loaded.run(silence.data(), output.data(), silence.size());
    CHECK(testing::allocations() == before);
    double drift = 0.0;
    for (float y : output) drift = std::max(drift, std::abs(static_cast<double>(y) - output[0]));
    CHECK_LESS(drift, 2e-6);
  });
}

TEST(filters_of_several_lengths_share_a_grid) {
  Program program = testing::filter_graph(5000);
  for (int taps : {20000, 300}) {
    Op next = testing::filter_graph(taps).ops[0];
    next.a.line = program.output_line;
    next.output.line = static_cast<std::uint32_t>(program.line_channels.size());
    program.line_channels.push_back(1);
    program.output_line = next.output.line;
    program.ops.push_back(next);
  }
  const KernelTable& kernels = choose_kernels(nullptr);
  const Loaded loaded(program, kernels, true);
  CHECK(loaded.plan.has_grid());
  const std::vector<float> input = testing::Noise(8).take(loaded.plan.grid_samples() + 500);
  CHECK_LESS(
      rms_of_difference(whole(program, kernels, input, true), whole(program, kernels, input)),
      2e-6);
}

// Every length from the shortest, with one
// partition and with several, against the reference.
TEST(whole_transforms_equal_the_reference) {
  for_every_isa([](const KernelTable& kernels) {
    testing::Noise noise(14);
    for (int bins = kMinFilterBins; bins <= 1 << 15; bins *= 2) {
      for (int partitions : {1, 3}) {
        const auto size = static_cast<std::size_t>(2 * bins);
        const auto count = static_cast<std::size_t>(partitions);
        std::vector<float> twiddles(twiddle_floats(size / 2));
        pack_twiddles(size / 2, twiddles.data());
        const std::vector<float> input = noise.take(size), bias = {0.5f};
        const std::vector<float> response =
            noise.take(size * count, 1.0f / static_cast<float>(bins));
        std::vector<float> spectra = noise.take(size * count), of_reference = spectra;
        std::vector<float> work(size + kSpectrumScratchFloats), output(size), expected(size);
        SpectrumFilterTask task{input.data(),
                                output.data(),
                                twiddles.data(),
                                response.data(),
                                bias.data(),
                                spectra.data(),
                                work.data(),
                                bins,
                                partitions,
                                partitions - 1,
                                partitions == 1 ? bins / 2 * 3 : bins};
        kernels.spectrum_filter(task);
        task.output = expected.data();
        task.spectra = of_reference.data();
        reference_kernels().spectrum_filter(task);
        CHECK_LESS(rms_of_difference(output, expected), 2e-6);
        if (partitions > 1) CHECK_LESS(rms_of_difference(spectra, of_reference), 1e-4);
      }
    }
  });
}

}  // namespace
