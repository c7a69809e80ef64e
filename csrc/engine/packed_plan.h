// A model ready to run: one block of bytes that holds the layer table and the packed weights.
//
// The block has no pointers and the same layout for every instruction set, so it can be a file,
// a tensor inside a scripted model, or memory shared by threads; it is never changed. Layout
// (little endian, every part on a 64-byte boundary):
//   PlanHeader | PlanLayer[layer_count] | per layer: packed weights, bias, slopes
// Which state a stream of the plan needs follows from it; see stream_state.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffers.h"
#include "engine/model_graph.h"

namespace fxfast {

struct PlanHeader {
  char magic[8];  // "fxfplan\0"
  std::uint32_t version;
  std::uint32_t layer_count;
  std::uint64_t plan_bytes;
  std::uint64_t fingerprint;  // of everything after the header; ties a state to its plan
  std::uint64_t state_bytes;  // of one stream
  std::uint32_t skip;
  std::uint32_t block_samples;  // the engine works through longer blocks in pieces of this
  std::uint32_t line_samples;   // samples a history line takes before it is moved back
  std::uint32_t reserved;
  std::uint64_t output_line_offset;  // in the state, bytes
};

struct PlanLayer {
  std::uint32_t in_channels, out_channels, taps, dilation;
  std::uint32_t activation;
  std::uint32_t line_stride;  // floats between the rows of the layer's input line
  std::uint64_t line_offset;  // of the layer's input line in the state, bytes
  std::uint64_t weights_offset, bias_offset, slopes_offset;  // in the plan, bytes; 0 = none

  std::uint32_t history_samples() const { return (taps - 1) * dilation; }
};

// A checked view of plan bytes that somebody else owns. Making one reads the header and the
// layer table (not the weights) and allocates nothing.
class PlanView {
 public:
  // Throws ModelError unless the bytes are a whole and consistent plan.
  PlanView(const std::byte* bytes, std::size_t size);

  const PlanHeader& header() const { return *reinterpret_cast<const PlanHeader*>(bytes_); }
  const PlanLayer& layer(std::size_t i) const {
    return reinterpret_cast<const PlanLayer*>(bytes_ + sizeof(PlanHeader))[i];
  }
  const float* floats(std::uint64_t offset) const {
    return reinterpret_cast<const float*>(bytes_ + offset);
  }
  std::size_t layer_count() const { return header().layer_count; }
  std::size_t state_bytes() const { return header().state_bytes; }
  std::int64_t receptive_field() const;

 private:
  const std::byte* bytes_;
};

// Packs a graph. Throws ModelError when the graph is not valid or its state would pass
// kMaxStateBytes.
AlignedBuffer pack_plan(const ModelGraph& graph);

constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 30;

}  // namespace fxfast
