// A packed program with one settled stream.
#pragma once

#include <vector>

#include "engine/run_block.h"
#include "kernels/choose_isa.h"

namespace testing {

struct Loaded {
  Loaded(const fxfast::Program& graph, const fxfast::KernelTable& table,
         const fxfast::PlanOptions& options = {})
      : bytes(fxfast::pack_plan(graph, options)),
        plan(bytes.data(), bytes.size()),
        kernels(table),
        state(plan.state_bytes()) {
    fxfast::settle(plan, kernels, state.data());
  }
  void run(const float* in, float* out, std::size_t n) {
    fxfast::run_block(plan, kernels, state.data(), in, out, n);
  }
  fxfast::AlignedBuffer bytes;
  fxfast::PlanView plan;
  const fxfast::KernelTable& kernels;
  fxfast::AlignedBuffer state;
};

template <typename Body>
void for_every_isa(Body body) {
  for (const fxfast::KernelTable* kernels : fxfast::built_kernels()) {
    if (fxfast::machine_supports(*kernels)) body(*kernels);
  }
}

inline std::vector<float> whole(const fxfast::Program& graph, const fxfast::KernelTable& kernels,
                                const std::vector<float>& input,
                                const fxfast::PlanOptions& options = {}) {
  Loaded loaded(graph, kernels, options);
  std::vector<float> output(input.size());
  loaded.run(input.data(), output.data(), input.size());
  return output;
}

}  // namespace testing
