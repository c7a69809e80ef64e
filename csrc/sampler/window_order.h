// Which windows there are, and in which order an epoch visits them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sampler/batch_source.h"
#include "sampler/permutation.h"
#include "sampler/spans.h"

namespace fxfast {

struct WindowSettings {
  std::uint64_t length = 1;  // samples of a window
  std::uint64_t stride = 1;  // samples from one window of a span to the next
  std::uint64_t run = 1;     // consecutive windows that stay together
  std::uint64_t seed = 0;
  bool replacement = false;
};

// Window ids count the windows of all spans in order; window i of a span starts at i * stride.
//
// An epoch cuts the ids, from a random phase on and round the end, into runs. Full runs come in
// an order that a keyed permutation gives, the short one that may be left comes last: every
// window exactly once. With replacement every run starts at a random id.
class WindowOrder {
 public:
  WindowOrder(const std::vector<std::int64_t>& lengths, const WindowSettings& settings);

  std::uint64_t windows() const { return windows_; }
  const WindowSettings& settings() const { return settings_; }
  void set_epoch(std::uint64_t epoch);

  // The ids at `count` positions from `first` on, at most Workspace::kRows. Positions are below
  // windows().
  void ids(const GatherTable& table, std::uint64_t first, std::size_t count, std::uint64_t* out,
           std::uint64_t* scratch) const;

  struct Place {
    std::size_t span;
    std::size_t index;     // of the span among those with a window
    std::uint64_t window;  // within the span
    std::uint64_t left;    // windows of the span from this one on
  };
  Place locate(std::uint64_t id) const;
  // Those with a window.
  std::size_t spans() const { return span_.size(); }

  std::size_t memory_bytes() const;

 private:
  void run_starts(const GatherTable& table, std::uint64_t first, std::size_t count,
                  std::uint64_t* out, std::uint64_t* scratch) const;

  WindowSettings settings_;
  // For every span with a window: its first id, and which span it is.
  std::vector<std::uint64_t> first_id_;
  std::vector<std::uint32_t> span_;
  std::uint64_t windows_ = 0, full_runs_ = 0, phase_ = 0, epoch_ = 0;
  std::optional<KeyedPermutation> runs_;
};

}  // namespace fxfast
