// Recurrent kernels of every instruction set against the reference, and the promise that neither
// neighbours nor a split change a bit.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "allocation_counter.h"
#include "base/buffers.h"
#include "engine/render_array.h"
#include "graphs.h"
#include "kernels/pack_weights.h"
#include "loaded.h"
#include "testing.h"

namespace {

using namespace fxfast;

struct Layer {
  Layer(Cell kind, int in, int size, std::uint64_t seed, float scale)
      : cell(kind),
        in_channels(in),
        units(size),
        weights(static_cast<std::size_t>(recurrent_weight_floats(in, size)) * sizeof(float)),
        bias(static_cast<std::size_t>(4 * recurrent_lanes(size)) * sizeof(float)),
        start(static_cast<std::size_t>(recurrent_state_floats(in, size)) * sizeof(float)) {
    testing::Noise noise(seed);
    const auto count = static_cast<std::size_t>(size);
    const auto rows = static_cast<std::size_t>(in + size);
    const std::vector<float> plain =
        noise.take(rows * 4 * count, scale / std::sqrt(static_cast<float>(rows)));
    const std::vector<float> plain_bias = noise.take(4 * count, 0.3f);
    pack_recurrent({plain.data(), plain_bias.data(), in, size, kind}, floats(weights),
                   floats(bias));
    pack_recurrent_state(kind, size, noise.take(2 * count, 0.5f).data(), floats(start));
  }
  static float* floats(const AlignedBuffer& buffer) {
    return reinterpret_cast<float*>(const_cast<std::byte*>(buffer.data()));
  }

  Cell cell;
  int in_channels, units;
  AlignedBuffer weights, bias, start;
};

// Streams of some layers one after the other, with everything that the kernels need.
class Net {
 public:
  Net(const std::vector<Layer>& layers, int streams, int samples, int first_seed = 0)
      : layers_(layers),
        streams_(streams),
        stride_((samples + 2 * kMaxVectorFloats - 1) / kMaxVectorFloats * kMaxVectorFloats) {
    for (int s = 0; s < streams; ++s) {
      testing::Noise noise(static_cast<std::uint64_t>(100 + first_seed + s));
      lines_.push_back(noise.take(row_floats() * static_cast<std::size_t>(layers[0].in_channels)));
    }
    for (const Layer& layer : layers) {
      for (int s = 0; s < streams; ++s) {
        lines_.emplace_back(row_floats() * static_cast<std::size_t>(layer.units));
        states_.emplace_back(layer.start.size());
        std::copy_n(layer.start.data(), layer.start.size(), states_.back().data());
      }
    }
  }

  void run(const KernelTable& kernels, int begin, int end) {
    std::vector<RecurrentTask> tasks;
    std::vector<RecurrentStream> streams;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const Layer& layer = layers_[l];
      tasks.push_back({Layer::floats(layer.weights), Layer::floats(layer.bias), stride_, stride_,
                       layer.in_channels, layer.units, end - begin, layer.cell});
      for (int s = 0; s < streams_; ++s) {
        streams.push_back(
            {line(l, s) + begin, line(l + 1, s) + begin,
             Layer::floats(
                 states_[l * static_cast<std::size_t>(streams_) + static_cast<std::size_t>(s)])});
      }
    }
    kernels.recurrent(tasks.data(), static_cast<int>(tasks.size()), streams.data(), streams_);
  }

  std::vector<float> output(int stream, int samples) {
    std::vector<float> values;
    for (int u = 0; u < layers_.back().units; ++u) {
      const float* row = line(layers_.size(), stream) + u * stride_;
      values.insert(values.end(), row, row + samples);
    }
    return values;
  }

 private:
  std::size_t row_floats() const { return static_cast<std::size_t>(stride_); }
  float* line(std::size_t layer, int stream) {
    return lines_[layer * static_cast<std::size_t>(streams_) + static_cast<std::size_t>(stream)]
        .data();
  }

  const std::vector<Layer>& layers_;
  int streams_;
  std::ptrdiff_t stride_;
  std::vector<std::vector<float>> lines_;
  std::vector<AlignedBuffer> states_;
};

std::vector<Layer> layers_of(Cell cell, const std::vector<int>& units, int in_channels,
                             float scale = 1.2f) {
  std::vector<Layer> layers;
  for (int size : units) {
    layers.emplace_back(cell, in_channels, size, static_cast<std::uint64_t>(size), scale);
    in_channels = size;
  }
  return layers;
}

double worst_error(const std::vector<Layer>& layers, const KernelTable& kernels, int samples) {
  Net expected(layers, 1, samples), got(layers, 1, samples);
  expected.run(reference_kernels(), 0, samples);
  got.run(kernels, 0, samples);
  const std::vector<float> a = expected.output(0, samples), b = got.output(0, samples);
  double error = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= error)) error = difference;  // NaN counts
  }
  return error;
}

constexpr Cell kCells[] = {Cell::kLstm, Cell::kGru};
const std::vector<int> kUnits = {1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 96};

TEST(recurrent_kernels_equal_reference) {
  testing::for_every_isa([](const KernelTable& kernels) {
    for (Cell cell : kCells) {
      for (int units : kUnits) {
        for (int in : {1, 2, 9}) {
          CHECK_LESS(worst_error(layers_of(cell, {units}, in), kernels, 70), 3e-6);
        }
      }
      CHECK_LESS(worst_error(layers_of(cell, {130}, 70), kernels, 20), 3e-6);
      CHECK_LESS(worst_error(layers_of(cell, {800}, 1), kernels, 3), 3e-6);
    }
  });
}

TEST(recurrent_stacks_equal_reference) {
  testing::for_every_isa([](const KernelTable& kernels) {
    for (Cell cell : kCells) {
      CHECK_LESS(worst_error(layers_of(cell, {8, 8}, 1), kernels, 70), 3e-6);
      CHECK_LESS(worst_error(layers_of(cell, {16, 5, 40}, 1), kernels, 70), 3e-6);
      CHECK_LESS(worst_error(layers_of(cell, {17, 100, 3, 16}, 2), kernels, 70), 3e-6);
    }
  });
}

// Every stream of every batch has the bits that it has alone, in one piece.
void check_batches(const std::vector<Layer>& layers, const KernelTable& kernels, int samples) {
  constexpr int kMost = kMaxRecurrentStreams;
  std::vector<std::vector<float>> alone;
  for (int s = 0; s < kMost; ++s) {
    Net net(layers, 1, samples, s);
    net.run(kernels, 0, samples);
    alone.push_back(net.output(0, samples));
  }
  for (int streams : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, kMost}) {
    Net net(layers, streams, samples);
    const int split = streams * 7 % samples;
    net.run(kernels, 0, split);
    net.run(kernels, split, samples);
    for (int s = 0; s < streams; ++s) {
      CHECK(net.output(s, samples) == alone[static_cast<std::size_t>(s)]);
    }
  }
}

TEST(neither_neighbours_nor_splits_change_a_bit) {
  testing::for_every_isa([](const KernelTable& kernels) {
    const bool is_slow = kernels.vector_floats == 1;
    for (Cell cell : kCells) {
      for (int units : {1, 8, 9, 16, 17, 32, 40, 48, 64, 65, 96}) {
        if (is_slow && units > 20) continue;
        check_batches(layers_of(cell, {units}, 1), kernels, 50);
      }
      check_batches(layers_of(cell, {16}, 3), kernels, 50);
      check_batches(layers_of(cell, {8, 16, 40}, 1), kernels, is_slow ? 20 : 50);
      if (!is_slow) check_batches(layers_of(cell, {130}, 70), kernels, 20);
    }
  });
}

// Saturated gates and enormous inputs stay finite.
TEST(recurrent_kernels_stay_finite) {
  testing::for_every_isa([](const KernelTable& kernels) {
    for (Cell cell : kCells) {
      for (float scale : {100.0f, 1e30f}) {
        const std::vector<Layer> layers = layers_of(cell, {16, 40}, 1, scale);
        for (int streams : {1, 4}) {
          Net net(layers, streams, 60);
          net.run(kernels, 0, 60);
          for (float y : net.output(0, 60)) CHECK(std::isfinite(y));
        }
      }
    }
  });
}

// run_block_batch and render_array against run_block, with convolutions around the layers.
TEST(streams_in_a_batch_have_the_bits_that_they_have_alone) {
  for (const Program& graph : {testing::recurrent_graph(Cell::kLstm, 16),
                               testing::recurrent_graph(Cell::kGru, 9), testing::small_graph()}) {
    testing::for_every_isa([&](const KernelTable& kernels) {
      testing::Loaded loaded(graph, kernels);
      const std::size_t samples = 450;
      for (std::size_t count : {std::size_t{1}, std::size_t{3}, std::size_t{8}, std::size_t{33}}) {
        const std::vector<float> input = testing::Noise(3).take(count * samples);
        std::vector<float> alone(input.size()), got(input.size()), rendered(input.size());
        std::vector<AlignedBuffer> states;
        std::vector<BatchStream> batch;
        for (std::size_t s = 0; s < count; ++s) {
          testing::Loaded one(graph, kernels);
          one.run(&input[s * samples], &alone[s * samples], samples);
          states.emplace_back(loaded.plan.state_bytes());
          std::copy_n(loaded.state.data(), loaded.state.size(), states.back().data());
          batch.push_back({states.back().data(), &input[s * samples], &got[s * samples]});
        }
        const long before = testing::allocations();
        run_block_batch(loaded.plan, kernels, batch.data(), count, 101);
        CHECK(testing::allocations() == before);
        for (BatchStream& stream : batch) stream.input += 101, stream.output += 101;
        run_block_batch(loaded.plan, kernels, batch.data(), count, samples - 101);
        CHECK(got == alone);
        WorkerPool team(3);
        render_array(loaded.plan, kernels, loaded.state.data(), team, input.data(), rendered.data(),
                     count, samples);
        CHECK(rendered == alone);
      }
    });
  }
}

}  // namespace
