// A program ready to run: one block of bytes that holds the line table, the operation table and
// the packed weights.
//
// The block has no pointers and the same layout for every instruction set, so it can be a file,
// a tensor inside a scripted model, or memory shared by threads; it is never changed. Layout
// (little endian, every part on a 64-byte boundary):
//   PlanHeader | PlanLine[line_count] | PlanOp[op_count] | per op: weights, bias, params
// Which state a stream of the plan needs follows from it; see stream_state.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffers.h"
#include "engine/program.h"

namespace fxfast {

struct PlanHeader {
  char magic[8];  // "fxfplan\0"
  std::uint32_t version;
  std::uint32_t line_count;
  std::uint32_t op_count;
  std::uint32_t output_line;
  std::uint64_t plan_bytes;
  std::uint64_t fingerprint;      // of everything after the header; ties a state to its plan
  std::uint64_t state_bytes;      // of one stream
  std::uint32_t block_samples;    // the engine works through longer blocks in pieces of this
  std::uint32_t stretch_samples;  // samples a line takes before its history is moved back
  std::uint64_t receptive_field;  // 0: recurrent, it depends on everything before
};
static_assert(sizeof(PlanHeader) == kCacheLineBytes);

struct PlanLine {
  std::uint32_t channels;
  std::uint32_t history;  // samples before the current ones that some operation reads
  std::uint32_t stride;   // floats between the rows of two channels
  std::uint32_t reserved;
  std::uint64_t offset;  // in the state, bytes
};

// Operations that follow one another and are one layer of a WaveNet; see layer_groups.h.
struct LayerGroup {
  std::uint32_t sum;       // place after the convolution, 0 = none
  std::uint32_t residual;  // place after the convolution, 0 = none
  std::uint32_t length;    // operations; 1: no layer
};

struct PlanOp {
  std::uint32_t kind, activation, combine, cell;
  std::uint32_t in_channels, out_channels, taps, dilation;
  Operand a, b, c, output;
  std::uint64_t weights_offset, bias_offset, params_offset;  // in the plan, bytes; 0 = none
  std::uint64_t cell_offset;  // of a recurrent layer's state in the state, bytes; 0 = none
  LayerGroup group;           // the operations from here on that run as one layer
  std::uint32_t reserved;

  std::uint32_t history_samples() const { return (taps - 1) * dilation; }
};

// A checked view of plan bytes that somebody else owns. Making one reads the header and the
// tables (not the weights) and allocates nothing.
class PlanView {
 public:
  // Throws ModelError unless the bytes are a whole and consistent plan.
  PlanView(const std::byte* bytes, std::size_t size);

  const PlanHeader& header() const { return *reinterpret_cast<const PlanHeader*>(bytes_); }
  const PlanLine& line(std::size_t i) const {
    return reinterpret_cast<const PlanLine*>(bytes_ + sizeof(PlanHeader))[i];
  }
  const PlanOp& op(std::size_t i) const {
    return reinterpret_cast<const PlanOp*>(bytes_ + sizeof(PlanHeader) +
                                           line_count() * sizeof(PlanLine))[i];
  }
  const float* floats(std::uint64_t offset) const {
    return offset == 0 ? nullptr : reinterpret_cast<const float*>(bytes_ + offset);
  }
  std::size_t line_count() const { return header().line_count; }
  std::size_t op_count() const { return header().op_count; }
  std::size_t state_bytes() const { return header().state_bytes; }
  bool is_recurrent() const { return header().receptive_field == 0; }
  // Of what is not recurrent; 1 for a plan that is.
  std::int64_t receptive_field() const {
    return is_recurrent() ? 1 : static_cast<std::int64_t>(header().receptive_field);
  }
  std::int64_t multiply_adds_per_sample() const;

 private:
  const std::byte* bytes_;
};

// Packs a program. Throws ModelError when it is not valid or its state would pass kMaxStateBytes.
AlignedBuffer pack_plan(const Program& program);

constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 30;

}  // namespace fxfast
