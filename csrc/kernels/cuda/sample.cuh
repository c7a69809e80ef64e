// Batches of windows on the device: which windows a batch has, and their samples. The orders are
// those of csrc/sampler, number by number.
#pragma once

#include "kernels/cuda/cuda_program.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/sample_program.h"

namespace fxfast::cuda {

// SplitMix64 from a state that seed and epoch give.
struct KeyStream {
  std::uint64_t state;

  FXFAST_DEVICE KeyStream(std::uint64_t seed, std::uint64_t epoch)
      : state(seed * 0x9E3779B97F4A7C15u + epoch * 0xD1B54A32D192ED03u + 1) {}
  FXFAST_DEVICE std::uint64_t next() {
    state += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
};

FXFAST_DEVICE std::uint32_t mixed(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

FXFAST_DEVICE void set_order(SampleOrder& order, std::uint64_t n, std::uint64_t seed,
                             std::uint64_t epoch) {
  KeyStream stream(seed, epoch);
  order.n = n;
  if (n < kSampleTable) {
    for (std::uint64_t i = 0; i < n; ++i) order.table[i] = static_cast<std::uint16_t>(i);
    for (std::uint64_t left = n; left > 1; --left) {
      const std::uint64_t chosen = (stream.next() >> 32) * left >> 32;
      const std::uint16_t last = order.table[left - 1];
      order.table[left - 1] = order.table[chosen];
      order.table[chosen] = last;
    }
    return;
  }
  int bits = 0;
  for (std::uint64_t left = n - 1; left > 0; left >>= 1) ++bits;
  order.high_bits = bits / 2;
  order.low_bits = bits - order.high_bits;
  for (int r = 0; r < 6; ++r) order.round[r] = static_cast<std::uint32_t>(stream.next());
}

FXFAST_DEVICE std::uint64_t permuted(const SampleOrder& order, std::uint64_t value) {
  if (order.n < kSampleTable) return order.table[value];
  const std::uint64_t low_mask = (std::uint64_t{1} << order.low_bits) - 1;
  const std::uint64_t high_mask = (std::uint64_t{1} << order.high_bits) - 1;
  do {
    std::uint64_t low = value & low_mask, high = value >> order.low_bits;
#pragma unroll
    for (int r = 0; r < 6; r += 2) {
      high ^= mixed(static_cast<std::uint32_t>(low) + order.round[r]) & high_mask;
      low ^= mixed(static_cast<std::uint32_t>(high) + order.round[r + 1]) & low_mask;
    }
    value = high << order.low_bits | low;
  } while (value >= order.n);
  return value;
}

// Philox4x32-10, as random_word of csrc/sampler.
FXFAST_DEVICE std::uint64_t random_at(std::uint64_t seed, std::uint64_t epoch,
                                      std::uint64_t position) {
  std::uint32_t a = static_cast<std::uint32_t>(position);
  std::uint32_t b = static_cast<std::uint32_t>(position >> 32);
  std::uint32_t c = static_cast<std::uint32_t>(epoch);
  std::uint32_t d = static_cast<std::uint32_t>(epoch >> 32);
  std::uint32_t key0 = static_cast<std::uint32_t>(seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * a;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * c;
    a = static_cast<std::uint32_t>(product1 >> 32) ^ b ^ key0;
    b = static_cast<std::uint32_t>(product1);
    c = static_cast<std::uint32_t>(product0 >> 32) ^ d ^ key1;
    d = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return std::uint64_t{b} << 32 | a;
}

// How an epoch is ordered; one thread.
FXFAST_DEVICE void begin_epoch(const SamplePlan& plan, SampleState& state) {
  constexpr std::uint64_t kPhaseKey = 0x5bd1e995u;
  set_order(state.runs, plan.full_runs, plan.seed, state.epoch);
  state.phase = 0;
  if (plan.run > 1) {
    set_order(state.phases, plan.run, plan.seed ^ kPhaseKey, state.epoch);
    state.phase = permuted(state.phases, 0);
  }
}

// To a batch of an epoch, or (`next`) to the one after the present; one thread.
FXFAST_DEVICE void go_to_batch(const SamplePlan& plan, SampleState& state, bool next,
                               std::uint64_t epoch, std::uint64_t number) {
  if (next) {
    if (++state.number < plan.batches) return;
    epoch = state.epoch + 1, number = 0;
  }
  state.epoch = epoch, state.number = number;
  begin_epoch(plan, state);
}

FXFAST_DEVICE std::uint64_t run_start(const SamplePlan& plan, const SampleState& state,
                                      std::uint64_t run) {
  if (plan.replacement != 0) return random_at(plan.seed, state.epoch, run) % plan.windows;
  const std::uint64_t value = run < plan.full_runs ? permuted(state.runs, run) : run;
  return plan.run == 1 ? value : (state.phase + value * plan.run) % plan.windows;
}

FXFAST_DEVICE std::uint64_t window_at(const SamplePlan& plan, const SampleState& state,
                                      std::uint64_t position) {
  if (plan.run == 1) return run_start(plan, state, position);
  const std::uint64_t id = run_start(plan, state, position / plan.run) + position % plan.run;
  return id % plan.windows;
}

FXFAST_DEVICE const SampleSpan& span_of(const SamplePlan& plan, std::uint64_t id) {
  int low = 0, count = plan.span_count;
  while (count > 1) {
    const int half = count / 2;
    low += plan.spans[low + half].first_id <= id ? half : 0;
    count -= half;
  }
  return plan.spans[low];
}

// Where the samples of a row are: addresses of dry and wet, 0 for a row that the batch lacks.
struct SampleRow {
  std::uint64_t dry, wet;
};

FXFAST_DEVICE SampleRow find_row(const SampleRun& run, std::uint64_t row, bool writes) {
  const SamplePlan& plan = *run.plan;
  const SampleState& state = *run.state;
  const std::uint64_t position = state.number * plan.batch + plan.rank * plan.share + row;
  if (row >= plan.share || (plan.wraps == 0 && position >= plan.windows)) return {0, 0};
  const std::uint64_t id = window_at(plan, state, position % plan.windows);
  const SampleSpan& span = span_of(plan, id);
  if (writes) {
    run.ids[row] = static_cast<std::int64_t>(id);
    if (run.mask != nullptr) run.mask[row] = position < plan.windows ? 1.0f : 0.0f;
    for (int k = 0; k < plan.knob_count; ++k) {
      run.knobs[row * plan.knob_count + k] = plan.knobs[span.file * plan.knob_count + k];
    }
  }
  const std::uint64_t start = (id - span.first_id) * plan.stride;
  const std::uint64_t bytes = plan.is_int16 != 0 ? 2 : 4;
  return {span.dry + start * bytes, span.wet + (start + plan.length - plan.out_length) * bytes};
}

// Four samples as float32, those of them that there are: full scale of int16 is 1.
struct FourSamples {
  float v[4];
};

// int16 samples come in words of four, of which `from` may be in the middle.
FXFAST_DEVICE FourSamples four_integers(std::uint64_t from, int count) {
  const std::uint64_t word = from / 8 * 8;
  const int bits = static_cast<int>(from % 8) * 8;
  std::uint64_t bytes = load_word(word) >> bits;
  if (bits + 16 * count > 64) bytes |= load_word(word + 8) << (64 - bits);
  FourSamples found;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto value = static_cast<std::int16_t>(bytes >> 16 * i & 0xFFFF);
    found.v[i] = static_cast<float>(value) * (1.0f / 32768.0f);
  }
  return found;
}

FXFAST_DEVICE FourSamples four_floats(std::uint64_t from, int count) {
  FourSamples found = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) found.v[i] = reinterpret_cast<const float*>(from)[i];
  }
  return found;
}

FXFAST_DEVICE void store_samples(const FourSamples& samples, int count, float* to) {
  if (count == 4 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    store4(to, {samples.v[0], samples.v[1], samples.v[2], samples.v[3]});
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) to[i] = samples.v[i];
  }
}

// Samples [begin, begin + count) of rows by a warp: a lane takes four of a row, lanes side by side
// the fours of a row and, where these are few, several rows; several steps are on their way at
// once. `places` are the addresses of the rows' samples 0, every other one; 0: no such row.
FXFAST_DEVICE void copy_rows(const std::uint64_t* places, int rows, bool is_int16,
                             std::uint64_t begin, int count, float* to, std::uint64_t stride) {
  constexpr int kSteps = 4;
  const int fours = (count + 3) / 4, lane = thread_index() % kWarp;
  int lanes = 1;  // of a row
  while (lanes < fours && lanes < kWarp) lanes *= 2;
  const int side = kWarp / lanes;
  int row = lane / lanes, four = lane % lanes;
  while (row < rows) {
    FourSamples samples[kSteps];
    int rows_of[kSteps], fours_of[kSteps], counts[kSteps];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const std::uint64_t place = row < rows ? places[2 * row] : 0;
      const int left = count - 4 * four;
      rows_of[s] = row, fours_of[s] = four;
      counts[s] = place == 0 || left < 0 ? 0 : left < 4 ? left : 4;
      samples[s] = {};
      if (counts[s] > 0) {
        const std::uint64_t at = begin + 4 * static_cast<std::uint64_t>(four);
        samples[s] = is_int16 ? four_integers(place + 2 * at, counts[s])
                              : four_floats(place + 4 * at, counts[s]);
      }
      four += lanes;
      if (four >= fours) four = lane % lanes, row += side;
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const auto from_row = static_cast<std::uint64_t>(rows_of[s]);
      float* place = to + from_row * stride + begin + 4 * static_cast<std::uint64_t>(fours_of[s]);
      if (counts[s] > 0) store_samples(samples[s], counts[s], place);
    }
  }
}

// The last team that has found its rows goes on to the next batch: others no longer need the state.
FXFAST_DEVICE void finish_batch(const SampleRun& run) {
  if (count_up(run.state->finished) + 1 < static_cast<std::uint32_t>(team_count())) return;
  run.state->finished = 0;
  go_to_batch(*run.plan, *run.state, true, 0, 0);
}

// A warp makes a piece of some rows: a lane finds each, and all copy them.
FXFAST_DEVICE void sample_rows(const SampleRun& run) {
  const SamplePlan& plan = *run.plan;
  const auto piece = static_cast<std::uint64_t>(run.piece_samples);
  const std::uint64_t pieces = (plan.length + piece - 1) / piece;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const std::uint64_t number =
      static_cast<std::uint64_t>(team_index()) * (kSampleThreads / kWarp) + warp;
  const std::uint64_t first = number / pieces * run.warp_rows, begin = number % pieces * piece;
  auto* places = reinterpret_cast<SampleRow*>(shared_memory()) + warp * kWarp;
  places[lane] = lane < run.warp_rows ? find_row(run, first + lane, begin == 0) : SampleRow{0, 0};
  wait_for_all();
  if (thread_index() == 0) finish_batch(run);
  const auto samples = [&](std::uint64_t length) {
    const std::uint64_t left = begin < length ? length - begin : 0;
    return static_cast<int>(left < piece ? left : piece);
  };
  const bool is_int16 = plan.is_int16 != 0;
  copy_rows(&places->dry, run.warp_rows, is_int16, begin, samples(plan.length),
            run.x + first * plan.length, plan.length);
  copy_rows(&places->wet, run.warp_rows, is_int16, begin, samples(plan.out_length),
            run.y + first * plan.out_length, plan.out_length);
}

}  // namespace fxfast::cuda
