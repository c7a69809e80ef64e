// What a team knows of its streams while it plays them.
#pragma once

#include "kernels/cuda/cuda_program.h"
#include "kernels/cuda/device.h"

namespace fxfast::cuda {

FXFAST_DEVICE const CudaHeader& header_of(const CudaRun& run) {
  return *reinterpret_cast<const CudaHeader*>(run.plan);
}
FXFAST_DEVICE const CudaOp* ops_of(const CudaRun& run) {
  return reinterpret_cast<const CudaOp*>(run.plan + sizeof(CudaHeader));
}
FXFAST_DEVICE const CudaLayer* layers_of(const CudaRun& run) {
  return reinterpret_cast<const CudaLayer*>(ops_of(run) + header_of(run).op_count);
}
FXFAST_DEVICE const float* floats_of(const CudaRun& run) {
  return reinterpret_cast<const float*>(run.plan + floats_at(header_of(run)));
}

struct Team {
  const CudaRun* run;
  const CudaJob* jobs;  // of its streams
  const float* floats;  // of the plan, where operations read them
  float* slots;         // of its first stream
  std::int64_t played;  // samples since the start of the run, warm-up included
  std::int32_t streams;
  std::int32_t slot_floats;

  FXFAST_DEVICE float* row(int stream, Slot slot, int channel) const {
    return slots + stream * slot_floats + slot.at + channel * slot.stride;
  }
  FXFAST_DEVICE float* state(int stream) const {
    const std::int64_t kept = jobs[stream].state;
    if (kept >= 0) return run->states + kept;
    const std::int64_t place = std::int64_t{team_index()} * header_of(*run).team_streams + stream;
    return run->team_states + place * static_cast<std::int32_t>(header_of(*run).state_floats);
  }
  // Samples of the stream before this block.
  FXFAST_DEVICE std::int64_t position(int stream) const {
    return *reinterpret_cast<const std::int64_t*>(state(stream)) + played;
  }
  FXFAST_DEVICE std::int64_t total(int stream) const {
    return jobs[stream].warm_up + jobs[stream].samples;
  }
  // Samples of this block.
  FXFAST_DEVICE int samples(int stream) const {
    const std::int64_t left = total(stream) - played;
    const std::int64_t most = header_of(*run).block_samples;
    return static_cast<int>(left < 0 ? 0 : left < most ? left : most);
  }
  // Samples of this block that only warm up.
  FXFAST_DEVICE int unheard(int stream) const {
    const std::int64_t left = jobs[stream].warm_up - played;
    const int most = samples(stream);
    return static_cast<int>(left < 0 ? 0 : left < most ? left : most);
  }
};

// Where sample `position` stands in a ring of `length` samples.
FXFAST_DEVICE int ring_index(std::int64_t position, std::int32_t length) {
  // A remainder of 32 bits is far cheaper.
  if (position >> 32 == 0) {
    return static_cast<int>(static_cast<std::uint32_t>(position) %
                            static_cast<std::uint32_t>(length));
  }
  return static_cast<int>(static_cast<std::uint64_t>(position) %
                          static_cast<std::uint32_t>(length));
}

// Knob by knob; before the stream each stood where it stands at its first sample.
FXFAST_DEVICE void read_knobs(const Team& team, const CudaOp& op, int stream, std::int64_t first) {
  const CudaJob& job = team.jobs[stream];
  const bool is_held = job.knob_stride == 0;
  const std::int64_t apart = is_held ? 1 : job.knob_stride;
  for (int k = 0; k < op.out_channels - 1; ++k) {
    const float* values = team.run->knobs + job.knobs + k * apart;
    float* row = team.row(stream, op.output, k + 1);
    for (int t = thread_index(); t < team.samples(stream); t += thread_count()) {
      const std::int64_t at = first + t;
      row[t] = values[at < 0 || is_held ? 0 : at];
    }
  }
}

// Of several streams each warp takes its own, so that none waits for the memory of one after the
// other; kernels whose teams have one stream each have no code for that.
template <bool kSeveral>
FXFAST_DEVICE int threads_of_stream() {
  return kSeveral ? kWarp : thread_count();
}

template <bool kSeveral>
FXFAST_DEVICE void read_input(const Team& team, const CudaOp& op) {
  const int width =
      !kSeveral || op.out_channels > 1 ? thread_count() : threads_of_stream<kSeveral>();
  for (int s = kSeveral ? thread_index() / width : 0; s < team.streams;
       s += kSeveral ? thread_count() / width : 1) {
    const CudaJob& job = team.jobs[s];
    const std::int64_t first = job.first - job.warm_up + team.played;
    float* row = team.row(s, op.output, 0);
    const int end = team.samples(s);
    for (int t = kSeveral ? thread_index() % width : thread_index(); t < end; t += width) {
      const std::int64_t at = first + t;
      row[t] = at < 0 ? 0.0f : team.run->input[job.input + at];
    }
    if (op.out_channels > 1) read_knobs(team, op, s, first);
  }
}

template <bool kSeveral>
FXFAST_DEVICE void write_output(const Team& team, const CudaOp& op) {
  const int width = threads_of_stream<kSeveral>();
  for (int s = kSeveral ? thread_index() / width : 0; s < team.streams;
       s += kSeveral ? thread_count() / width : 1) {
    const CudaJob& job = team.jobs[s];
    const std::int64_t first = job.output + job.first + team.played - job.warm_up;
    const float* row = team.row(s, op.a, 0);
    const int end = team.samples(s);
    for (int t = team.unheard(s) + (kSeveral ? thread_index() % width : thread_index()); t < end;
         t += width) {
      team.run->output[first + t] = row[t];
    }
  }
}

// The history of a line in front of its slot; before the stream began there was nothing.
FXFAST_DEVICE void fetch_history(const Team& team, const CudaOp& op) {
  const int length = op.history, channels = op.out_channels;
  for (int s = 0; s < team.streams; ++s) {
    const std::int64_t position = team.position(s);
    const float* ring = team.state(s) + op.state;
    const int start = ring_index(position, length);
    // Samples of the history that were never played.
    const int unknown = position < length ? length - static_cast<int>(position) : 0;
    for (int c = 0; c < channels; ++c) {
      float* row = team.row(s, op.output, c) - length;
      for (int m = thread_index(); m < length; m += thread_count()) {
        const int at = start + m;
        row[m] = m < unknown ? 0.0f : ring[c * length + (at < length ? at : at - length)];
      }
    }
  }
}

FXFAST_DEVICE void store_history(const Team& team, const CudaOp& op) {
  const int length = op.history, channels = op.out_channels;
  for (int s = 0; s < team.streams; ++s) {
    float* ring = team.state(s) + op.state;
    const int samples = team.samples(s), kept = samples < length ? samples : length;
    const int start = ring_index(team.position(s) + samples - kept, length);
    for (int c = 0; c < channels; ++c) {
      const float* row = team.row(s, op.a, c) + samples - kept;
      for (int t = thread_index(); t < kept; t += thread_count()) {
        const int at = start + t;
        ring[c * length + (at < length ? at : at - length)] = row[t];
      }
    }
  }
}

}  // namespace fxfast::cuda
