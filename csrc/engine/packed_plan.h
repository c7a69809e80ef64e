// A program ready to run: one block of bytes that holds the line table, the operation table and
// the packed weights.
//
// The block has no pointers and the same layout for every instruction set, so it can be a file,
// a tensor inside a scripted model, or memory shared by threads; it is never changed. Layout
// (little endian, every part on a 64-byte boundary):
//   PlanHeader | PlanLine[line_count] | PlanOp[op_count] | per op: weights, bias, params
// Which state a stream of the plan needs follows from it; see stream_state.h.
//
// A plan for offline rendering may have a grid: some of its operations take a fixed number of
// samples at once, at multiples of that number in absolute time, and the grid is a common multiple
// of all those numbers. A stream of such a plan runs in whole grids from its start; see
// run_block.h. Operations in a row that take equally many samples at once are a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/buffers.h"
#include "engine/filter.h"
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
  std::uint32_t grid_samples;     // 1: a stream runs in blocks of any length
  // Streams that start a whole number of these samples apart give the same bits: a multiple of the
  // grid, and of the blocks of long filters.
  std::uint32_t alignment_samples;
  std::uint32_t reserved[10];
  std::uint64_t work_offset;  // of the memory in the state that all operations share, bytes
  // The bits of an output sample follow from this many samples before its grid and from the grid;
  // more than the receptive field says where a transform spreads its rounding over a block.
  std::uint64_t reach;
};
static_assert(sizeof(PlanHeader) == 2 * kCacheLineBytes);

// The group of a line that holds a whole grid, for more than one group reads and writes it.
constexpr std::uint32_t kSpansGrid = 0xffffffffu;

struct PlanLine {
  std::uint32_t channels;
  std::uint32_t history;  // samples before the current ones that some operation reads
  std::uint32_t stride;   // floats between the rows of two channels
  std::uint32_t group;    // the one group that uses the line, or kSpansGrid
  // 0, or kLaneBlock of a line in lanes: rows of history + lane_block samples of every lane, then
  // `history` floats a channel that carry over to the next piece.
  std::uint32_t lane_block;
  std::uint32_t reserved;
  std::uint64_t offset;  // in the state, bytes

  std::uint64_t carry_offset() const {
    return offset + std::uint64_t{stride} * channels * sizeof(float);
  }
};

// Operations that follow one another and are one layer of a WaveNet; see layer_groups.h.
struct LayerGroup {
  std::uint32_t sum;       // place after the convolution, 0 = none
  std::uint32_t residual;  // place after the convolution, 0 = none
  std::uint32_t length;    // operations; 1: no layer
};

struct PlanOp {
  std::uint32_t kind, activation, combine, cell;
  // Of a delay: how many numbers it has, and the samples of its ring.
  std::uint32_t in_channels, out_channels, taps, dilation;
  Operand a, b, c, output;
  std::uint64_t weights_offset, bias_offset, params_offset;  // in the plan, bytes; 0 = none
  std::uint64_t cell_offset;  // of the state of a recurrent layer or a filter in the state, bytes
  // Samples it takes at once, whole vectors, so that the slack that kernels write after the samples
  // is never a sample of the next step; 0: any, in pieces of block_samples.
  std::uint32_t step;
  std::uint32_t lane_block;  // 0, or kLaneBlock of an operation on lines in lanes
  // 0, or kTransform of a convolution by transforms, whose weights are spectra.
  std::uint32_t transform;
  LayerGroup layer;  // the operations from here on that run as one layer

  bool is_delay() const { return kind == static_cast<std::uint32_t>(OpKind::kDelay); }
  bool is_filter() const { return kind == static_cast<std::uint32_t>(OpKind::kFilter); }
  // What it reads of its line; a filter keeps the rest of its past itself, a delay all of it.
  std::uint32_t history_samples() const {
    if (is_delay()) return 0;
    return is_filter() ? filter_history_samples(taps, step > 0) : (taps - 1) * dilation;
  }
};

// A checked view of plan bytes that somebody else owns. Making one reads the header and the
// tables (not the weights) and allocates nothing.
class PlanView {
 public:
  // Throws ModelError unless the bytes are a whole and consistent plan.
  PlanView(const std::byte* bytes, std::size_t size);

  const PlanHeader& header() const { return *reinterpret_cast<const PlanHeader*>(bytes_); }
  const PlanLine* lines() const {
    return reinterpret_cast<const PlanLine*>(bytes_ + sizeof(PlanHeader));
  }
  const PlanOp* ops() const { return reinterpret_cast<const PlanOp*>(lines() + line_count()); }
  const PlanLine& line(std::size_t i) const { return lines()[i]; }
  const PlanOp& op(std::size_t i) const { return ops()[i]; }
  const float* floats(std::uint64_t offset) const {
    return offset == 0 ? nullptr : reinterpret_cast<const float*>(bytes_ + offset);
  }
  std::size_t line_count() const { return header().line_count; }
  std::size_t op_count() const { return header().op_count; }
  std::size_t state_bytes() const { return header().state_bytes; }
  bool is_recurrent() const { return header().receptive_field == 0; }
  // Channels of the input after the audio.
  std::size_t knobs() const { return line(0).channels - 1; }
  // Of what is not recurrent; 1 for a plan that is.
  std::int64_t receptive_field() const {
    return is_recurrent() ? 1 : static_cast<std::int64_t>(header().receptive_field);
  }
  std::int64_t multiply_adds_per_sample() const;
  // Whether a stream runs in whole grids only, and how long they are.
  bool has_grid() const { return header().grid_samples > 1; }
  std::size_t grid_samples() const { return header().grid_samples; }
  std::size_t alignment_samples() const { return header().alignment_samples; }
  // After so many samples, a whole number of alignments, the state of what is not recurrent holds
  // nothing of what came before.
  std::size_t warm_up_samples() const { return round_up(header().reach, alignment_samples()); }

 private:
  const std::byte* bytes_;
};

struct PlanOptions {
  // Whether operations may take a fixed number of samples at once.
  bool is_offline = false;
  // Samples that each operation takes at once where it need not, 0 for any; for tests of the grid.
  std::vector<std::uint32_t> steps;
  // Whether every convolution that can run by transforms does so, though it gains nothing.
  bool all_transforms = false;
};

// Packs a program. Throws ModelError when it is not valid or its state would pass kMaxStateBytes.
// An offline plan without an operation that gains from it is the plan of a stream, byte for byte.
AlignedBuffer pack_plan(const Program& program, const PlanOptions& options = {});

constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 30;
constexpr std::uint32_t kMaxGridSamples = 1u << 22;

}  // namespace fxfast
