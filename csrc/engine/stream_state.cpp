#include "engine/stream_state.h"

#include <cstring>
#include <string>

#include "base/check.h"
#include "engine/run_block.h"

namespace fxfast {

void settle(const PlanView& plan, const KernelTable& kernels, std::byte* state) noexcept {
  std::memset(state, 0, plan.state_bytes());
  reinterpret_cast<StateHeader*>(state)->fingerprint = plan.header().fingerprint;
  constexpr std::size_t kSilence = 256;
  const float silence[kSilence] = {};
  float ignored[kSilence];
  // After receptive_field - 1 samples no history holds anything of the start any more.
  for (std::int64_t left = plan.receptive_field() - 1; left > 0;) {
    const std::int64_t n = left < static_cast<std::int64_t>(kSilence) ? left : kSilence;
    run_block(plan, kernels, state, silence, ignored, static_cast<std::size_t>(n));
    left -= n;
  }
}

void check_state(const PlanView& plan, const std::byte* state, std::size_t bytes) {
  if (bytes != plan.state_bytes()) {
    throw InputError("state: expected " + std::to_string(plan.state_bytes()) +
                     " bytes a stream, got " + std::to_string(bytes));
  }
  StateHeader header;
  std::memcpy(&header, state, sizeof(header));
  if (header.fingerprint != plan.header().fingerprint) {
    throw InputError("state: expected the state of this plan, got another plan's or no state");
  }
  if (header.position > plan.header().stretch_samples) {
    throw InputError("state: expected a position up to " +
                     std::to_string(plan.header().stretch_samples) + ", got " +
                     std::to_string(header.position));
  }
}

}  // namespace fxfast
