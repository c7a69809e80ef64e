// Delay lines in a plan: their numbers checked, their sizes, their state at rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/delay_task.h"

namespace fxfast {

struct DelaySizes {
  std::int64_t shortest = 0, longest = 0;  // whole samples that bound the delay of every voice
  std::int64_t multiply_adds = 0;          // for a sample
};

// Throws ModelError that begins with `name` unless `count` numbers are a delay that the kernels can
// run: whole, finite, without a delay that is too short for its feedback or too long.
DelaySizes check_delay(const float* numbers, std::size_t count, const std::string& name);

// While a stream settles: what comes out when the input has been as it is for ever.
void run_delay_at_rest(const DelayTask& task) noexcept;
// The state of that, at the first sample of the stream.
void rest_delay(const float* numbers, float* state, std::ptrdiff_t ring) noexcept;

}  // namespace fxfast
