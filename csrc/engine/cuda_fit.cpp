#include "engine/cuda_fit.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "engine/cuda_tail.h"
#include "engine/cuda_weights.h"

namespace fxfast {

// Block lengths, and whether weights are in shared memory. With stacks: what a thread has of times,
// which is the block length by the threads. `staged`: weights of long sums come while they are
// summed.
struct CudaFit::Choice {
  int block;
  bool shared;
  int stack_times = 0;
  bool staged = false;
};

namespace {

constexpr int kRecurrentBlock = 64;
// Of a team with recursions that one thread plays: more would leave multiprocessors idle.
constexpr int kMixedStreams = 8;
constexpr int kLeastStagedTerms = 16;
constexpr int kConvWarps = cuda::kConvThreads / cuda::kWarp;
// Lines whose history does not fit are read from their rings, but not so many that a smaller block
// would be better.
constexpr int kMostFromRing = 4;

// Floats of a delay beyond its numbers: rounded up, and its state.
constexpr int kMostDelayCells = 256;

int round_to_warp(int threads) { return (threads + cuda::kWarp - 1) / cuda::kWarp * cuda::kWarp; }

// Rows of a slot begin in different banks, for a step writes one sample of many of them.
constexpr int kRecurrentMargin = 4;

// Which of kWarpShapes a recurrent layer takes, -1: none.
int warp_shape(const Op& op) {
  int index = 0;
  for (const cuda::WarpShape& shape : cuda::kWarpShapes) {
    if (op.out_channels <= shape.units && op.in_channels <= shape.inputs) return index;
    ++index;
  }
  return -1;
}

bool has_tails(const Program& program) {
  return std::any_of(program.ops.begin(), program.ops.end(), has_tail);
}

bool can_stage(const Op& op) {
  return (op.kind == OpKind::kConv || op.kind == OpKind::kFilter) && op.out_channels > 4 &&
         op.taps * op.in_channels >= kLeastStagedTerms;
}

}  // namespace

CudaFit::CudaFit(const Program& program, const std::vector<CudaCells>& cells, int shared_bytes,
                 int major)
    : program_(program), cells_(cells), major_(major) {
  header.is_recurrent = cells.empty() ? 0 : 1;
  set_team();
  const bool has_few_rows = header.register_rows > 0 && header.register_rows <= cuda::kFewRows;
  // Of what a multiprocessor has each team takes a kilobyte more.
  const int beside = shared_bytes / cuda::kFewRowsTeams - 1024;
  if (has_few_rows && fit(beside)) return;
  if (fit(shared_bytes)) return;
  throw ModelError("model: expected lines that fit " + std::to_string(shared_bytes) +
                   " bytes of shared memory, got wider ones");
}

void CudaFit::set_team() {
  header.register_rows = -1;
  header.threads = cuda::kConvThreads;
  header.team_streams = 1;
  if (cells_.empty()) return;
  header.register_rows = 0;
  int units = 1, streams = cuda::kMaxTeamStreams;
  for (const Op& op : program_.ops) {
    if (op.kind != OpKind::kRecurrent) continue;
    units = std::max(units, op.out_channels);
    const int shape = warp_shape(op);
    if (shape < 0) {
      streams = std::min(streams, cuda::kConvThreads / op.out_channels);
    } else {
      const cuda::WarpShape& found = cuda::kWarpShapes[shape];
      streams = std::min(streams, kConvWarps * found.streams());
      header.register_rows = std::max(header.register_rows, found.rows());
    }
  }
  if (units > cuda::kMaxRecurrentThreads) {
    throw ModelError("units: expected at most " + std::to_string(cuda::kMaxRecurrentThreads) +
                     " on CUDA, got " + std::to_string(units));
  }
  if (is_mixed(program_)) {
    if (units > cuda::kConvThreads) {
      throw ModelError("units: expected at most " + std::to_string(cuda::kConvThreads) +
                       " beside delays and gains on CUDA, got " + std::to_string(units));
    }
    header.register_rows = cuda::kMixed;
    header.team_streams =
        static_cast<std::uint32_t>(std::min(kMixedStreams, cuda::kConvThreads / units));
    // All threads of a team transform one stream after the other.
    if (has_tails(program_)) header.team_streams = 1;
    return;
  }
  if (units > cuda::kConvThreads) {
    header.threads = static_cast<std::uint32_t>(round_to_warp(units));
    header.register_rows = 0;
  } else {
    header.team_streams = static_cast<std::uint32_t>(streams);
  }
}

// Of the shapes, where the kernel has them.
int CudaFit::shape_of(const Op& op) const { return header.register_rows > 0 ? warp_shape(op) : -1; }

bool CudaFit::fit(int most_bytes) {
  most_bytes_ = most_bytes;
  const std::vector<bool> fetched(program_.line_channels.size(), false);
  for (const int kernel : {cuda::kStacks8, cuda::kStacks3, cuda::kStacks4}) {
    // Its columns do not fit the registers of later devices (play.cu).
    if (kernel == cuda::kStacks3 && major_ >= 10) continue;
    const int times = cuda::stack_times(kernel), threads = cuda::threads_of(kernel);
    if (!has_stacks(times) || !try_fit({times * threads, true, times}, fetched)) continue;
    header.register_rows = kernel;
    header.threads = static_cast<std::uint32_t>(threads);
    return true;
  }
  if (has_staged()) {
    for (const int block : {512, 256}) {
      if (!try_fit({block, true, 0, true}, fetched)) continue;
      header.register_rows = cuda::kStagedConvs;
      return true;
    }
  }
  // Best first.
  constexpr Choice kChoices[] = {{256, true}, {128, true}, {256, false}, {128, false},
                                 {64, false}, {32, true},  {32, false}};
  for (Choice choice : kChoices) {
    if (header.is_recurrent != 0) choice.block = std::min(choice.block, kRecurrentBlock);
    std::vector<bool> from_ring(program_.line_channels.size(), false);
    for (int most = 0; most <= kMostFromRing; ++most) {
      if (try_fit(choice, from_ring)) return true;
      if (!move_largest_to_ring(from_ring)) break;
    }
  }
  // Narrow blocks with every history in its ring.
  return try_fit({cuda::kWarp, false}, std::vector<bool>(program_.line_channels.size(), true));
}

// Whether there are stacks, of channels that a kernel with so many times has.
bool CudaFit::has_stacks(int times) const {
  if (header.is_recurrent != 0) return false;
  const std::vector<LayerStack> stacks = layer_stacks(program_);
  const int most = times == 8 ? 8 : kMostStackChannels;
  return !stacks.empty() && std::all_of(stacks.begin(), stacks.end(), [&](const LayerStack& stack) {
    return stack.channels <= most;
  });
}

bool CudaFit::is_staged(const Op& op) const { return is_staged_ && can_stage(op); }

// Whether most of the work is in convolutions that can be staged.
bool CudaFit::has_staged() const {
  if (header.is_recurrent != 0) return false;
  std::int64_t all = 0, staged = 0;
  for (const Op& op : program_.ops) {
    const std::int64_t work = std::int64_t{op.taps} * op.in_channels * op.out_channels;
    all += work, staged += can_stage(op) ? work : 0;
  }
  return 2 * staged > all;
}

bool CudaFit::try_fit(const Choice& choice, const std::vector<bool>& from_ring) {
  const int block = choice.block;
  steps = cuda_steps(program_, from_ring, choice.stack_times);
  stack_times = choice.stack_times, is_staged_ = choice.staged;
  state_floats = cuda::kStatePrefix;
  for (const CudaCells& cells : cells_) state_floats += cells.floats();
  const int stride = header.is_recurrent != 0 ? block + kRecurrentMargin : block;
  const std::int64_t slots = (place_spans(program_, steps, stride, state_floats) + 3) / 4 * 4;
  const std::int64_t scratch = scratch_of(choice);
  const std::int64_t weights = choice.shared ? packed_floats() : 0;
  const std::int64_t total = weights + scratch + slots * header.team_streams;
  if (total * static_cast<std::int64_t>(sizeof(float)) > most_bytes_) return false;
  if (state_floats > INT32_MAX) return false;
  header.block_samples = static_cast<std::uint32_t>(block);
  header.shared_weights = static_cast<std::uint32_t>(weights);
  header.slots_at = static_cast<std::uint32_t>(weights + scratch);
  header.slot_floats = static_cast<std::uint32_t>(slots);
  header.shared_floats = static_cast<std::uint32_t>(total);
  return true;
}

// What operations need of shared memory while they run.
std::int64_t CudaFit::scratch_of(const Choice& choice) const {
  std::int64_t most = 0;
  if (is_mixed(program_)) most = std::int64_t{2} * header.team_streams * choice.block;
  if (has_tails(program_)) most = std::max(most, std::int64_t{2} * cuda::kTailBins);
  for (const Op& op : program_.ops) {
    std::int64_t floats = 0;
    if (op.kind == OpKind::kRecurrent) {
      const int shape = shape_of(op);
      floats = shape >= 0
                   ? cuda::kWarpShapes[shape].scratch_floats(kConvWarps)
                   : std::int64_t{2} * header.team_streams * (op.in_channels + op.out_channels);
    } else if (is_staged(op)) {
      const int panels = (op.out_channels + cuda::kStagedOuts - 1) / cuda::kStagedOuts;
      const int terms = op.taps * op.in_channels;
      const int held = terms > cuda::kRun ? 2 * cuda::kRun : terms;
      floats = std::int64_t{panels} * held * cuda::kStagedOuts;
    }
    most = std::max(most, floats);
  }
  // The weights of a layer and of the next one.
  for (const LayerStack& stack : steps.stacks) {
    most = std::max(most, 2 * weight_place(program_, stack, stack_times));
  }
  return (most + 3) / 4 * 4;
}

bool CudaFit::move_largest_to_ring(std::vector<bool>& from_ring) const {
  std::int64_t largest = 0;
  std::size_t found = 0;
  for (const Op& op : program_.ops) {
    const std::int64_t size = op.taps > 1 && !from_ring[op.a.line]
                                  ? op.history_samples() * program_.line_channels[op.a.line]
                                  : 0;
    if (size > largest) largest = size, found = op.a.line;
  }
  if (largest > 0) from_ring[found] = true;
  return largest > 0;
}

// The output channels of a tile and the times of a thread: the largest tile that still gives
// every warp one.
std::pair<int, int> CudaFit::tile_of(const Op& op) const {
  if (op.out_channels == 1 && (stack_times > 0 || is_staged_)) return {1, 2};
  if (op.out_channels == 1) return {1, 1};
  if (header.threads > cuda::kConvThreads && stack_times == 0) return {1, 1};
  if (is_staged(op)) {
    const int panels = (op.out_channels + cuda::kStagedOuts - 1) / cuda::kStagedOuts;
    const int items = panels * static_cast<int>(header.block_samples) / (8 * cuda::kWarp);
    return {cuda::kStagedOuts, items * cuda::kWarp >= cuda::kConvThreads ? 8 : 4};
  }
  if (header.register_rows >= 0 || header.register_rows == cuda::kMixed) return {4, 2};
  if (is_staged_ || stack_times > 0) return {4, 2};
  const int warps = static_cast<int>(header.threads) / cuda::kWarp;
  const int block = static_cast<int>(header.block_samples);
  for (const auto& [outs, times] : {std::pair{8, 4}, std::pair{8, 2}}) {
    const int panels = (op.out_channels + outs - 1) / outs;
    const int tiles = (block + cuda::kWarp * times - 1) / (cuda::kWarp * times);
    if (op.out_channels > outs / 2 && block >= cuda::kWarp * times && panels * tiles >= warps) {
      return {outs, times};
    }
  }
  return {4, 2};
}

// As many as any choice of tiles packs, without those that are staged.
std::int64_t CudaFit::packed_floats() const {
  std::vector<bool> is_layer(program_.ops.size(), false);
  for (const LayerStack& stack : steps.stacks) {
    std::fill(is_layer.begin() + static_cast<std::ptrdiff_t>(stack.first),
              is_layer.begin() + static_cast<std::ptrdiff_t>(stack.end), true);
  }
  std::int64_t total = 0;
  for (std::size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    if (is_layer[i]) continue;
    const std::int64_t outs = op.out_channels == 1 ? 1 : (op.out_channels + 7) / 8 * 8;
    std::int64_t inputs = std::int64_t{op.in_channels} * op.taps;
    if (op.kind == OpKind::kRecurrent)
      inputs = std::int64_t{4} * (op.in_channels + op.out_channels);
    // Of those that come later, biases are among these.
    if (is_staged(op)) inputs = 0;
    total += outs * (inputs + 4) + static_cast<std::int64_t>(op.params.size()) + 16;
    if (op.kind == OpKind::kDelay) total += kMostDelayCells;
    if (has_tail(op)) total += tail_state_floats(op.taps);
  }
  return (total + 3) / 4 * 4;
}

}  // namespace fxfast
