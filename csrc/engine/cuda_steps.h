// The operations of a CUDA plan before they have places in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cuda_stack.h"
#include "engine/program.h"
#include "kernels/cuda/cuda_program.h"

namespace fxfast {

// One use of shared memory for a line: from the step that writes it all to the last that uses it.
// A scratch line has several, one after the other.
struct CudaSpan {
  int line = 0;
  int channels = 0;
  std::int64_t history = 0;  // samples before a block that some step reads
  bool from_ring = false;    // they are read where the ring is, not fetched in front of the slot
  bool is_buffer = false;    // of x in a stack: the history is that of one layer after the other
  int first = 0, last = 0;   // steps
  std::int32_t ring = -1;    // floats from the start of the state
  // Set by placing:
  std::int32_t at = -1;  // of channel 0 at time 0
  std::int32_t stride = 0;
};

// An operand of a step: a span and its first channel.
struct CudaOperand {
  int span = -1;
  int channel = 0;
};

// A stack is three steps, one operation of the kernel: it reads x and head, then has its buffer,
// and writes the next x and head, which may stand where the buffer and the first two were.
enum class StackPart { kNone, kReads, kPlays, kWrites };

struct CudaStep {
  cuda::CudaOpKind kind = cuda::CudaOpKind::kInput;
  const Op* op = nullptr;  // none for input, fetch, store, output and stacks
  Activation activation = Activation::kNone;
  CudaOperand a, b, c, output;
  StackPart part = StackPart::kNone;
  int stack = -1;
  CudaOperand source;                   // kPlays: of a first convolution that does not read x
  std::vector<CudaOperand> conditions;  // kPlays: of each layer
  CudaOperand next_head;                // kWrites; the next x is `output`
};

struct CudaSteps {
  std::vector<CudaStep> steps;
  std::vector<CudaSpan> spans;
  std::vector<LayerStack> stacks;
};

// The steps of a program that cuda::play can run, with the spans of its lines. Histories of
// `from_ring` lines are read from their rings. `stack_times`: what a thread of a kernel with stacks
// has of them, 0: there are none.
CudaSteps cuda_steps(const Program& program, const std::vector<bool>& from_ring, int stack_times);

// Places the spans for blocks of so many samples, each where no span of the same time is; returns
// how many floats they take together. The rings begin at `state_floats`, which grows by them.
std::int64_t place_spans(const Program& program, CudaSteps& steps, int block_samples,
                         std::int64_t& state_floats);

// Which steps must wait for the ones before them.
std::vector<bool> barriers(const CudaSteps& steps);

}  // namespace fxfast
