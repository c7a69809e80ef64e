#include "sampler/window_batches.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace fxfast {
namespace {

std::vector<std::int64_t> lengths_of(const Spans& spans) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(spans.list.size());
  for (const Span& span : spans.list) lengths.push_back(span.length);
  return lengths;
}

void check_shape(const BatchShape& shape, const WindowSettings& settings) {
  if (shape.out_length > settings.length) {
    throw InputError("out_length: expected at most the length of a window (" +
                     std::to_string(settings.length) + "), got " +
                     std::to_string(shape.out_length));
  }
  if (shape.ranks < 1 || shape.rank >= shape.ranks) {
    throw InputError("rank: expected 0 to below world_size (" + std::to_string(shape.ranks) +
                     "), got " + std::to_string(shape.rank));
  }
  if (shape.batch < 1 || shape.batch % shape.ranks != 0) {
    throw InputError("batch_size: expected a positive multiple of world_size (" +
                     std::to_string(shape.ranks) + "), got " + std::to_string(shape.batch));
  }
}

}  // namespace

const void* sample_at(const void* audio, std::uint64_t index, bool is_int16) {
  return static_cast<const char*>(audio) + index * (is_int16 ? 2 : 4);
}

void copy_samples(const GatherTable& table, bool is_int16, const void* source, std::uint64_t count,
                  std::uint64_t length, float* out) {
  (is_int16 ? table.gather_int16 : table.gather_float)(&source, 1, count, out, 0);
  std::memset(out + count, 0, (length - count) * sizeof(float));
}

WindowBatches::WindowBatches(Spans spans, const WindowSettings& settings, const BatchShape& shape,
                             Knobs knobs, const GatherTable& table)
    : spans_(std::move(spans)),
      order_(lengths_of(spans_), settings),
      shape_(shape),
      knobs_(knobs),
      table_(table) {
  check_shape(shape, settings);
}

std::uint64_t WindowBatches::batches() const {
  const std::uint64_t windows = order_.windows(), rest = windows % shape_.batch;
  return windows / shape_.batch + (rest > 0 && shape_.last != LastBatch::kDrop ? 1 : 0);
}

WindowBatches::Range WindowBatches::range(std::uint64_t number) const {
  const std::uint64_t first = number * shape_.batch + shape_.rank * shape_.of_rank();
  if (shape_.last == LastBatch::kWrap) return {first, shape_.of_rank()};
  const std::uint64_t end = std::min(first + shape_.of_rank(), order_.windows());
  return {first, end > first ? end - first : 0};
}

void WindowBatches::copy_knobs(const Span& span, float* out) const {
  std::memcpy(out, knobs_.values + static_cast<std::size_t>(span.file) * knobs_.count,
              knobs_.count * sizeof(float));
}

void WindowBatches::fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const {
  const Range range = this->range(number);
  const std::uint64_t windows = order_.windows();
  std::uint64_t row = 0;
  while (row < range.count) {
    const std::uint64_t position = range.first + row, at = position % windows;
    const std::uint64_t count =
        std::min({range.count - row, windows - at, std::uint64_t{Workspace::kRows}});
    fill_part(at, static_cast<std::size_t>(count), row, slot, work);
    if (slot.mask != nullptr) {
      std::fill_n(slot.mask + row, count, position < windows ? 1.0f : 0.0f);
    }
    row += count;
  }
  slot.rows = static_cast<std::int64_t>(range.count);
}

void WindowBatches::fill_part(std::uint64_t first, std::size_t count, std::uint64_t row,
                              BatchSlot& slot, Workspace& work) const {
  const std::uint64_t length = order_.settings().length, stride = order_.settings().stride;
  const std::uint64_t out_length = shape_.out_length;
  order_.ids(table_, first, count, work.ids.data(), work.scratch.data());
  for (std::size_t i = 0; i < count; ++i) {
    const WindowOrder::Place place = order_.locate(work.ids[i]);
    const Span& span = spans_.list[place.span];
    const std::uint64_t start = place.window * stride;
    work.dry[i] = sample_at(span.dry, start, spans_.is_int16);
    work.wet[i] = sample_at(span.wet, start + length - out_length, spans_.is_int16);
    slot.info[row + i] = static_cast<std::int64_t>(work.ids[i]);
    if (knobs_.count > 0) copy_knobs(span, slot.knobs + (row + i) * knobs_.count);
  }
  const auto gather = spans_.is_int16 ? table_.gather_int16 : table_.gather_float;
  gather(work.dry.data(), count, length, slot.x + row * length, length);
  if (out_length == 0) return;
  gather(work.wet.data(), count, out_length, slot.y + row * out_length, out_length);
}

std::size_t WindowBatches::memory_bytes() const {
  return sizeof(*this) + spans_.list.capacity() * sizeof(Span) + order_.memory_bytes() -
         sizeof(order_);
}

BlockBatches::BlockBatches(Spans spans, const WindowSettings& settings, const BatchShape& shape,
                           Knobs knobs, const GatherTable& table)
    : WindowBatches(std::move(spans), settings, shape, knobs, table) {
  if (shape.of_rank() % settings.run != 0) {
    throw InputError("batch_size: expected a multiple of run (" + std::to_string(settings.run) +
                     ") on every rank, got " + std::to_string(shape.of_rank()));
  }
  if (settings.stride > shape.out_length) {
    throw InputError("stride: expected at most out_length (" + std::to_string(shape.out_length) +
                     "), so that the targets of a run are one stretch, got " +
                     std::to_string(settings.stride));
  }
  if (shape.last == LastBatch::kWrap) {
    throw InputError("last: expected drop or short for blocks, got wrap");
  }
  max_rows_ = shape.of_rank() / settings.run * most_parts_of_a_run();
}

// A run that begins with the last window of a span reaches into the most others; ids go round.
std::uint64_t BlockBatches::most_parts_of_a_run() const {
  const std::uint64_t windows = order_.windows();
  const std::uint64_t run = std::min(order_.settings().run, windows);
  std::uint64_t most = 1;
  for (std::uint64_t begin = 0; begin < windows;) {
    const WindowOrder::Place first = order_.locate(begin);
    const std::uint64_t last = begin + first.left + run - 2;  // of the run
    const std::uint64_t round = last >= windows ? order_.spans() : 0;
    most = std::max(most, order_.locate(last % windows).index + round - first.index + 1);
    begin += first.left;
  }
  return most;
}

void BlockBatches::fill(std::uint64_t number, BatchSlot& slot, Workspace& work) const {
  const Range range = this->range(number);
  const std::uint64_t run = order_.settings().run;
  slot.rows = 0;
  for (std::uint64_t done = 0; done < range.count; done += run) {
    std::uint64_t left = std::min(run, range.count - done);
    order_.ids(table_, range.first + done, 1, work.ids.data(), work.scratch.data());
    for (std::uint64_t id = work.ids[0]; left > 0;) {
      const WindowOrder::Place place = order_.locate(id);
      const std::uint64_t windows = std::min(left, place.left);
      fill_row(place, id, windows, slot);
      left -= windows;
      id = (id + windows) % order_.windows();
    }
  }
}

void BlockBatches::fill_row(const WindowOrder::Place& place, std::uint64_t id,
                            std::uint64_t windows, BatchSlot& slot) const {
  const WindowSettings& settings = order_.settings();
  const Span& span = spans_.list[place.span];
  const auto row = static_cast<std::uint64_t>(slot.rows++);
  const std::uint64_t start = place.window * settings.stride;
  const std::uint64_t more = (windows - 1) * settings.stride;
  const std::uint64_t full = (settings.run - 1) * settings.stride;
  const std::uint64_t targets = shape_.out_length + full;
  copy_samples(table_, spans_.is_int16, sample_at(span.dry, start, spans_.is_int16),
               settings.length + more, settings.length + full,
               slot.x + row * (settings.length + full));
  copy_samples(table_, spans_.is_int16,
               sample_at(span.wet, start + settings.length - shape_.out_length, spans_.is_int16),
               shape_.out_length + more, targets, slot.y + row * targets);
  std::fill_n(slot.mask + row * targets, shape_.out_length + more, 1.0f);
  std::fill_n(slot.mask + row * targets + shape_.out_length + more, full - more, 0.0f);
  slot.info[2 * row] = static_cast<std::int64_t>(id);
  slot.info[2 * row + 1] = static_cast<std::int64_t>(windows);
  if (knobs_.count > 0) copy_knobs(span, slot.knobs + row * knobs_.count);
}

}  // namespace fxfast
