// Batches of lanes on the device: which chunk each lane has, and its samples. The order is that of
// csrc/sampler/lane_batches.cpp, number by number.
#pragma once

#include "kernels/cuda/lanes_program.h"
#include "kernels/cuda/sample.cuh"

namespace fxfast::cuda {

// A stretch of a span that a lane walks through; no span: nothing is left.
struct LaneSegment {
  int span;
  std::uint64_t begin, end;
};

struct LaneChunk {
  int span;
  std::uint64_t start, valid, warm_up;
  bool reset;
};

FXFAST_DEVICE std::uint64_t least(std::uint64_t a, std::uint64_t b) { return b < a ? b : a; }

FXFAST_DEVICE std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
  return (value + by - 1) / by;
}

// The span whose `first_of` is the last that is not above the value.
template <typename FirstOf>
FXFAST_DEVICE int last_not_above(int count, std::uint64_t value, FirstOf first_of) {
  int low = 0;
  while (count > 1) {
    const int half = count / 2;
    low += first_of(low + half) <= value ? half : 0;
    count -= half;
  }
  return low;
}

FXFAST_DEVICE std::uint64_t lane_phase(const LanePlan& plan, const LaneState& state, int span) {
  const std::uint64_t phase =
      permuted(state.phases, static_cast<std::uint64_t>(span) % plan.segment);
  return least(phase, plan.spans[span].length);
}

FXFAST_DEVICE std::uint64_t pieces_of_span(const LanePlan& plan, const LaneState& state, int span) {
  const std::uint64_t length = plan.spans[span].length;
  if (plan.segment == 0) return divide_up(length, plan.chunk);
  const std::uint64_t phase = lane_phase(plan, state, span);
  return (phase > 0 ? 1 : 0) + divide_up(length - phase, plan.segment);
}

// How an epoch is cut and ordered; all threads of one team.
FXFAST_DEVICE void begin_lanes(const LanePlan& plan, LaneState& state, std::uint64_t epoch,
                               std::uint64_t number) {
  constexpr std::uint64_t kPhaseKey = 0x77u;
  const bool leads = thread_index() == 0;
  if (leads) {
    state.epoch = epoch, state.number = number;
    if (plan.segment > 0) set_order(state.phases, plan.segment, plan.seed ^ kPhaseKey, epoch);
  }
  wait_for_all();
  for (int span = thread_index(); span < plan.span_count; span += thread_count()) {
    plan.first[span + 1] = pieces_of_span(plan, state, span);
  }
  wait_for_all();
  if (!leads) return;
  plan.first[0] = 0;
  for (int span = 0; span < plan.span_count; ++span) plan.first[span + 1] += plan.first[span];
  state.segments = plan.first[plan.span_count];
  state.steps = plan.whole_steps;
  if (plan.segment == 0) return;
  set_order(state.order, state.segments, plan.seed, epoch);
  const std::uint64_t per = plan.segment / plan.chunk;
  const std::uint64_t rounds = divide_up(state.segments, plan.lanes);
  const bool later = plan.stagger != 0 && rounds > 0;
  state.steps = rounds * per + (later ? (plan.lanes - 1) * per / plan.lanes : 0);
}

// To a batch of an epoch, or (`next`) to the one after the present; all threads of one team.
FXFAST_DEVICE void go_to_lanes(const LaneStep& step) {
  LaneState& state = *step.state;
  if (step.next == 0) return begin_lanes(*step.plan, state, step.epoch, step.number);
  const std::uint64_t number = state.number + 1, epoch = state.epoch, steps = state.steps;
  wait_for_all();
  if (number >= steps) return begin_lanes(*step.plan, state, epoch + 1, 0);
  if (thread_index() == 0) state.number = number;
}

FXFAST_DEVICE LaneSegment lane_segment(const LanePlan& plan, const LaneState& state,
                                       std::uint64_t number) {
  const int span = last_not_above(plan.span_count, number, [&](int f) { return plan.first[f]; });
  const std::uint64_t length = plan.spans[span].length, phase = lane_phase(plan, state, span);
  std::uint64_t index = number - plan.first[span];
  if (phase > 0 && index == 0) return {span, 0, phase};
  index -= phase > 0 ? 1 : 0;
  const std::uint64_t begin = phase + index * plan.segment;
  return {span, begin, least(begin + plan.segment, length)};
}

// The stretch that a lane without segments walks through at `step`, and in `number` the chunk of
// it.
FXFAST_DEVICE LaneSegment whole_part(const LanePlan& plan, std::uint64_t lane, std::uint64_t step,
                                     std::uint64_t& number) {
  const LaneSpan& last = plan.spans[plan.span_count - 1];
  const std::uint64_t total = last.begin + last.length;
  const std::uint64_t each = total / plan.lanes, rest = total % plan.lanes;
  const std::uint64_t begin = each * lane + rest * lane / plan.lanes;
  const std::uint64_t end = each * (lane + 1) + rest * (lane + 1) / plan.lanes;
  if (begin == end) return {-1, 0, 0};
  const auto begin_of = [&](int f) { return plan.spans[f].begin; };
  const int head = last_not_above(plan.span_count, begin, begin_of);
  const int tail = last_not_above(plan.span_count, end - 1, begin_of);
  const std::uint64_t in_head = begin - begin_of(head);
  const std::uint64_t head_end = least(end - begin_of(head), plan.spans[head].length);
  const std::uint64_t head_chunks = divide_up(head_end - in_head, plan.chunk);
  number = step;
  if (step < head_chunks) return {head, in_head, head_end};
  if (head == tail) return {-1, 0, 0};
  const std::uint64_t tail_end = end - begin_of(tail);
  const std::uint64_t target = plan.first[head + 1] + (step - head_chunks);
  if (target >= plan.first[tail] + divide_up(tail_end, plan.chunk)) return {-1, 0, 0};
  const int found = last_not_above(plan.span_count, target, [&](int f) { return plan.first[f]; });
  const int span = found < tail ? found : tail;
  number = target - plan.first[span];
  return {span, 0, span == tail ? tail_end : plan.spans[span].length};
}

FXFAST_DEVICE LaneChunk lane_chunk(const LanePlan& plan, const LaneState& state,
                                   std::uint64_t lane) {
  const LaneChunk none = {-1, 0, 0, 0, true};
  LaneSegment segment;
  std::uint64_t number = 0;
  if (plan.span_count == 0) return none;
  if (plan.segment == 0) {
    segment = whole_part(plan, lane, state.number, number);
    if (segment.span < 0) return none;
  } else {
    const std::uint64_t per = plan.segment / plan.chunk;
    const std::uint64_t later = plan.stagger != 0 ? lane * per / plan.lanes : 0;
    if (state.number < later) return none;
    const std::uint64_t turn = (state.number - later) / per * plan.lanes + lane;
    if (turn >= state.segments) return none;
    segment = lane_segment(plan, state, permuted(state.order, turn));
    number = (state.number - later) % per;
  }
  const std::uint64_t start = segment.begin + number * plan.chunk;
  const std::uint64_t valid = start < segment.end ? least(plan.chunk, segment.end - start) : 0;
  const bool reset = number == 0;
  return {segment.span, start, valid, reset ? least(plan.warm_up, segment.begin) : 0, reset};
}

// Where the samples of a row are; warm and valid are 0 for a row without any.
struct LaneRow {
  std::uint64_t dry, wet;  // addresses of the first sample to run before the chunk, and of y
  std::uint64_t warm, valid;
};

FXFAST_DEVICE LaneRow find_lane(const LaneRun& run, std::uint64_t row, bool writes) {
  const LanePlan& plan = *run.plan;
  if (row >= plan.rows) return {0, 0, 0, 0};
  const std::uint64_t lane = plan.first_lane + row;
  const LaneChunk chunk = lane_chunk(plan, *run.state, lane);
  const LaneSpan* span = chunk.span < 0 ? nullptr : plan.spans + chunk.span;
  if (writes) {
    const std::int64_t columns[kLaneColumns] = {
        chunk.reset ? 1 : 0,
        static_cast<std::int64_t>(chunk.warm_up),
        static_cast<std::int64_t>(chunk.valid),
        static_cast<std::int64_t>(lane),
        span == nullptr ? -1 : span->file,
        span == nullptr ? 0 : span->start + static_cast<std::int64_t>(chunk.start)};
#pragma unroll
    for (int c = 0; c < kLaneColumns; ++c) run.info[c * plan.rows + row] = columns[c];
    for (int k = 0; k < plan.knob_count; ++k) {
      run.knobs[row * plan.knob_count + k] =
          span == nullptr ? 0.0f : plan.knobs[span->file * plan.knob_count + k];
    }
  }
  if (chunk.valid == 0) return {0, 0, 0, 0};
  const std::uint64_t bytes = plan.is_int16 != 0 ? 2 : 4;
  return {span->dry + (chunk.start - chunk.warm_up) * bytes, span->wet + chunk.start * bytes,
          chunk.warm_up, chunk.valid};
}

// Samples of [begin, end) of a row that has `count` samples from `at` on, and zeros around; by a
// warp. Full scale of int16 is 1.
FXFAST_DEVICE void copy_padded(bool is_int16, std::uint64_t from, std::uint64_t at,
                               std::uint64_t count, std::uint64_t begin, std::uint64_t end,
                               float* to) {
  const auto lane = static_cast<std::uint64_t>(thread_index() % kWarp);
  const auto* integers = reinterpret_cast<const std::int16_t*>(from);
  const auto* floats = reinterpret_cast<const float*>(from);
#pragma unroll 4
  for (std::uint64_t i = begin + lane; i < end; i += kWarp) {
    const std::uint64_t s = i - at;  // before `at`: very large
    float value = 0.0f;
    if (s < count) {
      value = is_int16 ? static_cast<float>(integers[s]) * (1.0f / 32768.0f) : floats[s];
    }
    to[i] = value;
  }
}

// A team makes some rows, or a stretch of each: its threads find them, a warp copies each.
FXFAST_DEVICE void sample_lanes(const LaneRun& run) {
  const LanePlan& plan = *run.plan;
  const std::uint64_t length = plan.warm_up + plan.chunk;
  const auto stretch = static_cast<std::uint64_t>(run.team_samples);
  const std::uint64_t stretches = divide_up(length, stretch);
  const auto team = static_cast<std::uint64_t>(team_index());
  const std::uint64_t first = team / stretches * run.team_rows, part = team % stretches;
  auto* places = reinterpret_cast<LaneRow*>(shared_memory());
  for (int r = thread_index(); r < run.team_rows; r += thread_count()) {
    places[r] = find_lane(run, first + r, part == 0);
  }
  wait_for_all();
  const std::uint64_t begin = part * stretch, end = begin + stretch;
  const bool is_int16 = plan.is_int16 != 0;
  for (int r = thread_index() / kWarp; r < run.team_rows; r += thread_count() / kWarp) {
    if (first + r >= plan.rows) break;
    const LaneRow place = places[r];
    copy_padded(is_int16, place.dry, plan.warm_up - place.warm, place.warm + place.valid, begin,
                least(end, length), run.x + (first + r) * length);
    copy_padded(is_int16, place.wet, 0, place.valid, begin, least(end, plan.chunk),
                run.y + (first + r) * plan.chunk);
  }
}

}  // namespace fxfast::cuda
