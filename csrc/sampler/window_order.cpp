#include "sampler/window_order.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace fxfast {
namespace {

// Keeps the phase of the runs apart from their order.
constexpr std::uint64_t kPhaseKey = 0x5bd1e995u;
constexpr std::uint64_t kMaxWindows = std::uint64_t{1} << 60;

void require_positive(const char* name, std::uint64_t value) {
  if (value < 1) throw InputError(std::string(name) + ": expected at least 1, got 0");
}

}  // namespace

WindowOrder::WindowOrder(const std::vector<std::int64_t>& lengths, const WindowSettings& settings)
    : settings_(settings) {
  require_positive("length", settings.length);
  require_positive("stride", settings.stride);
  require_positive("run", settings.run);
  if (lengths.size() > UINT32_MAX) throw InputError("data: expected fewer than 2^32 spans");
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const auto samples = static_cast<std::uint64_t>(lengths[s]);
    if (samples < settings.length) continue;
    first_id_.push_back(windows_);
    span_.push_back(static_cast<std::uint32_t>(s));
    windows_ += (samples - settings.length) / settings.stride + 1;
    if (windows_ > kMaxWindows) throw InputError("data: expected at most 2^60 windows, got more");
  }
  first_id_.shrink_to_fit();
  span_.shrink_to_fit();
  full_runs_ = windows_ / settings.run;
  set_epoch(0);
}

void WindowOrder::set_epoch(std::uint64_t epoch) {
  epoch_ = epoch;
  runs_.emplace(full_runs_, settings_.seed, epoch);
  phase_ = settings_.run > 1
               ? KeyedPermutation(settings_.run, settings_.seed ^ kPhaseKey, epoch).at(0)
               : 0;
}

void WindowOrder::run_starts(const GatherTable& table, std::uint64_t first, std::size_t count,
                             std::uint64_t* out, std::uint64_t* scratch) const {
  if (settings_.replacement) {
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = random_word(settings_.seed, epoch_, first + i) % windows_;
    }
    return;
  }
  const std::uint64_t full = full_runs_ > first ? full_runs_ - first : 0;
  const auto permuted = static_cast<std::size_t>(std::min<std::uint64_t>(full, count));
  for (std::size_t i = 0; i < count; ++i) out[i] = first + i;
  runs_->map(table, out, permuted, scratch);
  if (settings_.run == 1) return;
  for (std::size_t i = 0; i < count; ++i) out[i] = (phase_ + out[i] * settings_.run) % windows_;
}

void WindowOrder::ids(const GatherTable& table, std::uint64_t first, std::size_t count,
                      std::uint64_t* out, std::uint64_t* scratch) const {
  const std::uint64_t run = settings_.run;
  if (run == 1) {
    run_starts(table, first, count, out, scratch);
    return;
  }
  if (count == 0) return;
  // The starts come first and are spread out from the back, each over its run.
  const std::uint64_t first_run = first / run, last = first + count - 1;
  const auto starts = static_cast<std::size_t>(last / run - first_run + 1);
  run_starts(table, first_run, starts, out, scratch);
  std::size_t start = starts - 1;
  std::uint64_t in_run = last % run;
  for (std::size_t i = count; i-- > 0;) {
    const std::uint64_t id = out[start] + in_run;
    if (in_run == 0) {
      in_run = run;
      start -= static_cast<std::size_t>(start > 0);
    }
    --in_run;
    out[i] = id >= windows_ ? id % windows_ : id;
  }
}

WindowOrder::Place WindowOrder::locate(std::uint64_t id) const {
  const std::size_t index = last_at_most(first_id_, id);
  const std::uint64_t end = index + 1 < first_id_.size() ? first_id_[index + 1] : windows_;
  return {span_[index], index, id - first_id_[index], end - id};
}

std::size_t WindowOrder::memory_bytes() const {
  return sizeof(*this) + first_id_.capacity() * sizeof(first_id_[0]) +
         span_.capacity() * sizeof(span_[0]);
}

}  // namespace fxfast
