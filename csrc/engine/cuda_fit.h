// How a program is laid out for the CUDA kernels: which of them plays it, by how many threads and
// streams, in blocks of what length, and what of it is in shared memory.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/cuda_cells.h"
#include "engine/cuda_steps.h"
#include "engine/program.h"
#include "kernels/cuda/cuda_program.h"

namespace fxfast {

class CudaFit {
 public:
  // Throws ModelError where no kernel takes the program. `cells` are those of its operations with
  // an endless memory, `major` is of the compute capability.
  CudaFit(const Program& program, const std::vector<CudaCells>& cells, int shared_bytes, int major);

  // Of the header what is decided here, and the steps with their places.
  cuda::CudaHeader header{};
  CudaSteps steps;
  std::int64_t state_floats = 0;
  int stack_times = 0;  // what a thread has of times where there are stacks

  // Which of kWarpShapes a recurrent layer takes, -1: none.
  int shape_of(const Op& op) const;
  // Whether the weights of a convolution come while it is played.
  bool is_staged(const Op& op) const;
  // The output channels of a tile and the times of a thread.
  std::pair<int, int> tile_of(const Op& op) const;

 private:
  struct Choice;

  void set_team();
  bool fit(int most_bytes);
  bool has_stacks(int times) const;
  bool has_staged() const;
  bool try_fit(const Choice& choice, const std::vector<bool>& from_ring);
  std::int64_t scratch_of(const Choice& choice) const;
  bool move_largest_to_ring(std::vector<bool>& from_ring) const;
  std::int64_t packed_floats() const;

  const Program& program_;
  const std::vector<CudaCells>& cells_;
  int most_bytes_ = 0, major_;
  bool is_staged_ = false;
};

}  // namespace fxfast
