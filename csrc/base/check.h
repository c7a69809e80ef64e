// Errors of the engine. Thrown only while things are built or validated at the door;
// run_block and the kernels never throw.
#pragma once

#include <stdexcept>
#include <string>

namespace fxfast {

// An argument or an audio buffer has a wrong shape or value.
struct InputError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A model graph, a packed plan or a stream state is not valid.
struct ModelError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// An instruction set was asked for that is unknown or that this machine lacks.
struct IsaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace fxfast
