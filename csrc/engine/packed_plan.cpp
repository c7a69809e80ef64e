#include "engine/packed_plan.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/stream_state.h"
#include "kernels/pack_weights.h"

namespace fxfast {
namespace {

constexpr char kMagic[8] = "fxfplan";
constexpr std::uint32_t kPlanVersion = 1;
// A whole number of time tiles of every kernel (48 and 24 samples), small enough that all lines
// of a block stay in the second-level cache.
constexpr std::uint32_t kBlockSamples = 192;
constexpr std::uint32_t kMaxLineSamples = 1u << 20;

// The part of the layout that follows from the sizes: the same arithmetic packs a plan and
// checks one, so a plan whose offsets differ by a byte is refused.
class Layout {
 public:
  Layout(std::uint32_t layer_count, std::uint32_t line_samples)
      : line_samples_(line_samples),
        plan_bytes_(
            round_up(sizeof(PlanHeader) + layer_count * sizeof(PlanLayer), kCacheLineBytes)),
        state_bytes_(sizeof(StateHeader)) {}

  // Sets the offsets and the stride of a layer whose sizes are set and within the limits.
  void place(PlanLayer& layer) {
    const std::uint64_t outs = layer.out_channels;
    layer.weights_offset = take(plan_bytes_, outs * layer.in_channels * layer.taps);
    layer.bias_offset = take(plan_bytes_, outs);
    const bool slopes = static_cast<Activation>(layer.activation) == Activation::kPrelu;
    layer.slopes_offset = slopes ? take(plan_bytes_, outs) : 0;
    layer.line_stride = row_floats(layer.history_samples() + line_samples_);
    layer.line_offset = take(state_bytes_, std::uint64_t{layer.line_stride} * layer.in_channels);
  }

  void finish(PlanHeader& header, std::uint32_t last_channels) {
    header.output_line_offset =
        take(state_bytes_, std::uint64_t{last_channels} * row_floats(header.block_samples));
    header.plan_bytes = plan_bytes_;
    header.state_bytes = state_bytes_;
  }

 private:
  static std::uint64_t take(std::uint64_t& total, std::uint64_t floats) {
    const std::uint64_t offset = total;
    total = round_up(offset + floats * sizeof(float), kCacheLineBytes);
    return offset;
  }

  // An odd number of cache lines, so that the rows of a line spread over all cache sets.
  static std::uint32_t row_floats(std::uint32_t samples) {
    constexpr std::uint32_t kLine = kCacheLineBytes / sizeof(float);
    const auto lines =
        static_cast<std::uint32_t>(round_up(samples + kMaxVectorFloats, kLine) / kLine);
    return (lines | 1u) * kLine;
  }

  std::uint32_t line_samples_;
  std::uint64_t plan_bytes_;
  std::uint64_t state_bytes_;
};

std::uint64_t fingerprint_of(const std::byte* bytes, std::size_t size) {
  std::uint64_t hash = 0x9e3779b97f4a7c15ull ^ size;
  for (std::size_t i = 0; i < size; i += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, sizeof(word));
    hash = (hash ^ word) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
  }
  return hash;
}

PlanLayer sizes_of(const ConvLayer& layer) {
  PlanLayer out{};
  out.in_channels = static_cast<std::uint32_t>(layer.in_channels);
  out.out_channels = static_cast<std::uint32_t>(layer.out_channels);
  out.taps = static_cast<std::uint32_t>(layer.taps);
  out.dilation = static_cast<std::uint32_t>(layer.dilation);
  out.activation = static_cast<std::uint32_t>(layer.activation);
  return out;
}

void require(bool ok, const char* what) {
  if (!ok) throw ModelError(std::string("plan: expected a whole and consistent plan, got ") + what);
}

void check_sizes(const PlanLayer& layer, std::uint32_t channels) {
  require(layer.in_channels == channels, "input channels that do not fit");
  require(layer.out_channels >= 1 && layer.out_channels <= kMaxChannels, "bad output channels");
  require(layer.taps >= 1 && layer.dilation >= 1, "zero taps or dilation");
  require(std::uint64_t{layer.taps - 1} * layer.dilation < kMaxReceptiveField,
          "a receptive field beyond the limit");
  const std::uint64_t per_tap = std::uint64_t{layer.in_channels} * layer.out_channels;
  require(per_tap * layer.taps <= kMaxParameters, "more parameters than the limit");
  require(layer.activation < kActivationCount, "an unknown activation");
}

}  // namespace

PlanView::PlanView(const std::byte* bytes, std::size_t size) : bytes_(bytes) {
  require(size >= sizeof(PlanHeader), "too few bytes");
  require(reinterpret_cast<std::uintptr_t>(bytes) % alignof(PlanHeader) == 0, "unaligned bytes");
  const PlanHeader& head = header();
  require(std::memcmp(head.magic, kMagic, sizeof(kMagic)) == 0, "other bytes");
  require(head.version == kPlanVersion, "another format version");
  require(head.layer_count >= 1 && head.layer_count <= kMaxLayers, "a bad layer count");
  require(size >= sizeof(PlanHeader) + head.layer_count * sizeof(PlanLayer), "too few bytes");
  require(head.block_samples >= 1 && head.block_samples <= head.line_samples &&
              head.line_samples <= kMaxLineSamples,
          "bad block sizes");
  Layout layout(head.layer_count, head.line_samples);
  std::uint32_t channels = 1;
  for (std::size_t i = 0; i < head.layer_count; ++i) {
    check_sizes(layer(i), channels);
    PlanLayer expected = layer(i);
    layout.place(expected);
    require(std::memcmp(&expected, &layer(i), sizeof(PlanLayer)) == 0, "offsets that do not fit");
    channels = expected.out_channels;
  }
  require(channels == 1, "more than one output channel");
  PlanHeader expected = head;
  layout.finish(expected, channels);
  require(std::memcmp(&expected, &head, sizeof(PlanHeader)) == 0, "totals that do not fit");
  require(head.plan_bytes == size, "another number of bytes than it says");
  require(head.state_bytes <= kMaxStateBytes, "a state beyond the limit");
}

std::int64_t PlanView::receptive_field() const {
  std::int64_t samples = 1;
  for (std::size_t i = 0; i < layer_count(); ++i) samples += layer(i).history_samples();
  return samples;
}

AlignedBuffer pack_plan(const ModelGraph& graph) {
  validate(graph);
  std::int64_t longest_history = 0;
  for (const ConvLayer& layer : graph.layers) {
    longest_history = std::max(longest_history, layer.history_samples());
  }
  PlanHeader header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kPlanVersion;
  header.layer_count = static_cast<std::uint32_t>(graph.layers.size());
  header.skip = graph.skip ? 1 : 0;
  header.block_samples = kBlockSamples;
  // Longer lines move their history back less often, shorter ones stay in cache.
  const auto stretch = std::clamp<std::int64_t>(longest_history, kBlockSamples, 4 * kBlockSamples);
  header.line_samples = static_cast<std::uint32_t>(round_up(stretch, kBlockSamples));

  Layout layout(header.layer_count, header.line_samples);
  std::vector<PlanLayer> layers;
  for (const ConvLayer& layer : graph.layers) {
    layers.push_back(sizes_of(layer));
    layout.place(layers.back());
  }
  layout.finish(header, layers.back().out_channels);
  if (header.state_bytes > kMaxStateBytes) {
    throw ModelError("state of one stream: expected at most " + std::to_string(kMaxStateBytes) +
                     " bytes, got " + std::to_string(header.state_bytes));
  }

  AlignedBuffer plan(header.plan_bytes);
  std::byte* bytes = plan.data();
  std::memcpy(bytes + sizeof(PlanHeader), layers.data(), layers.size() * sizeof(PlanLayer));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const ConvLayer& layer = graph.layers[i];
    auto floats = [&](std::uint64_t offset) { return reinterpret_cast<float*>(bytes + offset); };
    const std::ptrdiff_t taps = layer.taps;
    pack_weights({layer.weight.data(), layer.out_channels, layer.in_channels, layer.taps,
                  layer.in_channels * taps, taps, 1},
                 floats(layers[i].weights_offset));
    std::copy(layer.bias.begin(), layer.bias.end(), floats(layers[i].bias_offset));
    if (layer.activation == Activation::kPrelu) {
      for (int o = 0; o < layer.out_channels; ++o) {
        floats(layers[i].slopes_offset)[o] = layer.slopes[layer.slopes.size() == 1 ? 0 : o];
      }
    }
  }
  header.fingerprint =
      fingerprint_of(bytes + sizeof(PlanHeader), header.plan_bytes - sizeof(PlanHeader));
  std::memcpy(bytes, &header, sizeof(header));
  return plan;
}

}  // namespace fxfast
