#include "sampler/lane_batches.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "sampler/window_batches.h"

namespace fxfast {
namespace {

// Keeps the phases of the segments apart from their order.
constexpr std::uint64_t kPhaseKey = 0x77u;

std::vector<std::int64_t> lengths_of(const Spans& spans) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(spans.list.size());
  for (const Span& span : spans.list) lengths.push_back(span.length);
  return lengths;
}

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) { return (value + by - 1) / by; }

void check(const LaneSettings& s) {
  if (s.chunk < 1) throw InputError("chunk: expected at least 1 sample, got 0");
  if (s.segment % s.chunk != 0) {
    throw InputError("segment: expected a multiple of chunk (" + std::to_string(s.chunk) +
                     "), got " + std::to_string(s.segment));
  }
  if (s.ranks < 1 || s.rank >= s.ranks) {
    throw InputError("rank: expected 0 to below world_size (" + std::to_string(s.ranks) +
                     "), got " + std::to_string(s.rank));
  }
  if (s.lanes < 1 || s.lanes % s.ranks != 0) {
    throw InputError("lanes: expected a positive multiple of world_size (" +
                     std::to_string(s.ranks) + "), got " + std::to_string(s.lanes));
  }
  if (s.segment == 0 && s.stagger) {
    throw InputError("stagger: expected segments of some length, got none");
  }
}

}  // namespace

LaneOrder::LaneOrder(const std::vector<std::int64_t>& lengths, const LaneSettings& settings)
    : settings_(settings), first_(lengths.size() + 1) {
  check(settings);
  end_.reserve(lengths.size());
  std::uint64_t end = 0;
  for (const std::int64_t length : lengths) {
    end += static_cast<std::uint64_t>(length);
    end_.push_back(end);
  }
  set_epoch(0);
}

void LaneOrder::set_epoch(std::uint64_t epoch) {
  const LaneSettings& s = settings_;
  if (s.segment == 0) {
    std::uint64_t begin = 0;
    for (std::size_t f = 0; f < end_.size(); begin = end_[f++]) {
      first_[f + 1] = first_[f] + divide_up(end_[f] - begin, s.chunk);
    }
    steps_ = 0;
    for (std::uint64_t l = 0; l < s.lanes; ++l) steps_ = std::max(steps_, whole_steps(l));
    return;
  }
  phases_.emplace(s.segment, s.seed ^ kPhaseKey, epoch);
  for (std::size_t f = 0; f < end_.size(); ++f) first_[f + 1] = first_[f] + segments_of(f);
  segments_ = first_.back();
  order_.emplace(segments_, s.seed, epoch);
  const std::uint64_t per = s.segment / s.chunk, rounds = divide_up(segments_, s.lanes);
  const std::uint64_t latest = s.stagger && rounds > 0 ? (s.lanes - 1) * per / s.lanes : 0;
  steps_ = rounds * per + latest;
}

std::uint64_t LaneOrder::phase(std::size_t span) const {
  return phases_->at(span % settings_.segment);
}

std::uint64_t LaneOrder::segments_of(std::size_t span) const {
  const std::uint64_t length = end_[span] - (span > 0 ? end_[span - 1] : 0);
  const std::uint64_t phase = std::min(this->phase(span), length);
  return (phase > 0 ? 1 : 0) + divide_up(length - phase, settings_.segment);
}

LaneOrder::Segment LaneOrder::segment(std::uint64_t number) const {
  // upper_bound, because a span of no samples has no segment.
  const auto after = std::upper_bound(first_.begin(), first_.end(), number);
  const auto span = static_cast<std::size_t>(after - first_.begin()) - 1;
  const std::uint64_t length = end_[span] - (span > 0 ? end_[span - 1] : 0);
  const std::uint64_t phase = std::min(this->phase(span), length);
  std::uint64_t index = number - first_[span], begin = 0, end = phase;
  if (phase == 0 || index > 0) {
    index -= phase > 0 ? 1 : 0;
    begin = phase + index * settings_.segment;
    end = std::min(begin + settings_.segment, length);
  }
  return {static_cast<std::int64_t>(span), begin, end};
}

// The steps that a lane needs for its part of everything.
std::uint64_t LaneOrder::whole_steps(std::uint64_t lane) const {
  std::uint64_t number = UINT64_MAX;
  whole_part(lane, UINT64_MAX, number);
  return number;
}

// The stretch of a span that the lane walks through at `step`, and in `number` the chunk of it.
// With a step beyond the end: none, and `number` becomes the steps of the lane.
LaneOrder::Segment LaneOrder::whole_part(std::uint64_t lane, std::uint64_t step,
                                         std::uint64_t& number) const {
  const std::uint64_t total = end_.empty() ? 0 : end_.back(), chunk = settings_.chunk;
  const auto share = [&](std::uint64_t l) {  // total * l / lanes without overflow
    const std::uint64_t each = total / settings_.lanes, rest = total % settings_.lanes;
    return each * l + rest * l / settings_.lanes;
  };
  const std::uint64_t begin = share(lane), end = share(lane + 1);
  number = 0;
  if (begin == end) return {-1, 0, 0};
  const auto span_of = [&](std::uint64_t sample) {
    return static_cast<std::size_t>(std::upper_bound(end_.begin(), end_.end(), sample) -
                                    end_.begin());
  };
  const auto start_of = [&](std::size_t f) { return f > 0 ? end_[f - 1] : 0; };
  const std::size_t head = span_of(begin), tail = span_of(end - 1);
  const std::uint64_t in_head = begin - start_of(head);
  const std::uint64_t head_end = std::min(end, end_[head]) - start_of(head);
  const std::uint64_t head_chunks = divide_up(head_end - in_head, chunk);
  if (step < head_chunks || head == tail) {
    number = std::min(step, head_chunks);
    if (step >= head_chunks) return {-1, 0, 0};
    return {static_cast<std::int64_t>(head), in_head, head_end};
  }
  const std::uint64_t tail_end = end - start_of(tail);
  const std::uint64_t all =
      head_chunks + first_[tail] - first_[head + 1] + divide_up(tail_end, chunk);
  if (step >= all) {
    number = all;
    return {-1, 0, 0};
  }
  const std::uint64_t target = first_[head + 1] + (step - head_chunks);
  const auto found = static_cast<std::size_t>(
                         std::upper_bound(first_.begin(), first_.end(), target) - first_.begin()) -
                     1;
  const std::size_t span = std::min(found, tail);
  number = target - first_[span];
  const std::uint64_t stop = span == tail ? tail_end : end_[span] - start_of(span);
  return {static_cast<std::int64_t>(span), 0, stop};
}

LaneChunk LaneOrder::chunk_of(const Segment& segment, std::uint64_t lane,
                              std::uint64_t number) const {
  LaneChunk out;
  out.lane = static_cast<std::int64_t>(lane);
  out.span = segment.span;
  out.start = segment.begin + number * settings_.chunk;
  out.valid = out.start < segment.end ? std::min(settings_.chunk, segment.end - out.start) : 0;
  out.reset = number == 0;
  out.warm_up = out.reset ? std::min(settings_.warm_up, segment.begin) : 0;
  return out;
}

LaneChunk LaneOrder::chunk(std::uint64_t step, std::uint64_t lane) const {
  LaneChunk none;
  none.lane = static_cast<std::int64_t>(lane);
  if (settings_.segment == 0) {
    std::uint64_t number = 0;
    const Segment part = whole_part(lane, step, number);
    return part.span < 0 ? none : chunk_of(part, lane, number);
  }
  const std::uint64_t per = settings_.segment / settings_.chunk;
  const std::uint64_t later = settings_.stagger ? lane * per / settings_.lanes : 0;
  if (step < later) return none;
  const std::uint64_t turn = (step - later) / per * settings_.lanes + lane;
  if (turn >= segments_) return none;
  return chunk_of(segment(order_->at(turn)), lane, (step - later) % per);
}

std::size_t LaneOrder::memory_bytes() const {
  return sizeof(*this) + (end_.capacity() + first_.capacity()) * sizeof(end_[0]);
}

LaneBatches::LaneBatches(Spans spans, const LaneSettings& settings, Knobs knobs,
                         const GatherTable& table)
    : spans_(std::move(spans)),
      order_(lengths_of(spans_), settings),
      knobs_(knobs),
      table_(table) {}

std::size_t LaneBatches::memory_bytes() const {
  return sizeof(*this) + spans_.list.capacity() * sizeof(Span) + order_.memory_bytes() -
         sizeof(order_);
}

void LaneBatches::fill(std::uint64_t number, BatchSlot& slot, Workspace&) const {
  const LaneSettings& settings = order_.settings();
  const std::uint64_t rows = settings.of_rank();
  for (std::uint64_t row = 0; row < rows; ++row) {
    fill_row(order_.chunk(number, settings.rank * rows + row), row, slot);
  }
  slot.rows = static_cast<std::int64_t>(rows);
}

void LaneBatches::fill_row(const LaneChunk& chunk, std::uint64_t row, BatchSlot& slot) const {
  const LaneSettings& settings = order_.settings();
  const std::uint64_t length = settings.warm_up + settings.chunk, warm = chunk.warm_up;
  float* x = slot.x + row * length;
  float* y = slot.y + row * settings.chunk;
  const Span* span = chunk.span < 0 ? nullptr : &spans_.list[static_cast<std::size_t>(chunk.span)];
  std::int64_t values[kColumns] = {};
  values[kReset] = chunk.reset ? 1 : 0;
  values[kWarm] = static_cast<std::int64_t>(warm);
  values[kValid] = static_cast<std::int64_t>(chunk.valid);
  values[kLane] = chunk.lane;
  values[kFile] = span != nullptr ? span->file : -1;
  values[kStart] = span != nullptr ? span->start + static_cast<std::int64_t>(chunk.start) : 0;
  const std::uint64_t rows = settings.of_rank();
  for (std::size_t c = 0; c < kColumns; ++c) slot.info[c * rows + row] = values[c];
  if (knobs_.count > 0) {
    float* out = slot.knobs + row * knobs_.count;
    const float* of_file =
        span == nullptr ? nullptr
                        : knobs_.values + static_cast<std::size_t>(span->file) * knobs_.count;
    for (std::size_t k = 0; k < knobs_.count; ++k) out[k] = of_file == nullptr ? 0.0f : of_file[k];
  }
  std::memset(x, 0, (settings.warm_up - warm) * sizeof(float));
  if (span == nullptr || chunk.valid == 0) {
    std::memset(x, 0, length * sizeof(float));
    std::memset(y, 0, settings.chunk * sizeof(float));
    return;
  }
  const bool is_int16 = spans_.is_int16;
  copy_samples(table_, is_int16, sample_at(span->dry, chunk.start - warm, is_int16),
               warm + chunk.valid, warm + settings.chunk, x + settings.warm_up - warm);
  copy_samples(table_, is_int16, sample_at(span->wet, chunk.start, is_int16), chunk.valid,
               settings.chunk, y);
}

}  // namespace fxfast
