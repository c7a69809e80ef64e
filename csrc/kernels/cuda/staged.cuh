// Convolutions of many terms, their weights on the way into shared memory while the terms before
// are summed: all threads take kRun terms at a time. Sums as in conv.cuh, bit for bit.
#pragma once

#include "kernels/cuda/conv.cuh"

namespace fxfast::cuda {

// The weights of terms `first` on, at most kRun, of all panels: [panel][run][kStagedOuts], where a
// run is kRun or, where that is less, all terms.
FXFAST_DEVICE void fetch_terms(const Team& team, const CudaOp& op, int panels, int first,
                               float* place) {
  const int terms = op.taps * op.in_channels;
  const int fours = (terms < kRun ? terms : kRun) * (kStagedOuts / 4);
  const float* weights = floats_of(*team.run) + op.weights;
  for (int n = thread_index(); n < panels * fours; n += thread_count()) {
    const int panel = n / fours, at = 4 * (n % fours), term = first + at / kStagedOuts;
    if (term >= terms) continue;
    copy_four_async(place + 4 * panel * fours + at,
                    weights + (panel * terms + first) * kStagedOuts + at);
  }
}

// sum += the products of terms `first` on, at most kRun.
template <int kSteps>
FXFAST_DEVICE void add_terms(const Team& team, const CudaOp& op, int time, int first,
                             const float* weights, float (&sum)[kStagedOuts][kSteps]) {
  const int terms = op.taps * op.in_channels, stride = op.a.stride;
  const int end = first + kRun < terms ? first + kRun : terms;
  int k = first / op.in_channels, i = first % op.in_channels;
  for (int term = first; term < end;) {
    const float* row = team.row(0, op.a, i) + time - (op.taps - 1 - k) * op.dilation;
    int count = op.in_channels - i;
    if (count > end - term) count = end - term;
#pragma unroll 4
    for (int n = 0; n < count; ++n, weights += kStagedOuts, row += stride) {
      float w[kStagedOuts], x[kSteps];
      load_weights(weights, w);
#pragma unroll
      for (int j = 0; j < kSteps; ++j) x[j] = row[kWarp * j];
#pragma unroll
      for (int o = 0; o < kStagedOuts; ++o) {
#pragma unroll
        for (int j = 0; j < kSteps; ++j) sum[o][j] = multiply_add(w[o], x[j], sum[o][j]);
      }
    }
    term += count, i = 0, ++k;
  }
}

template <int kSteps>
FXFAST_DEVICE void conv_staged(const Team& team, const CudaOp& op) {
  const int panels = (op.out_channels + kStagedOuts - 1) / kStagedOuts;
  const int block = static_cast<int>(header_of(*team.run).block_samples);
  const int items = panels * (block / (kWarp * kSteps)), terms = op.taps * op.in_channels;
  const int panel_floats = (terms < kRun ? terms : kRun) * kStagedOuts;
  const int place_floats = panels * panel_floats, samples = team.samples(0);
  const int lane = thread_index() % kWarp, warps = thread_count() / kWarp;
  float* places = shared_memory() + op.scratch;
  for (int pass = 0; pass < items; pass += warps) {
    const int item = pass + thread_index() / kWarp, panel = item % panels;
    const int time = item / panels * kWarp * kSteps;
    const bool plays = item < items && time < samples;
    float total[kStagedOuts][kSteps] = {};
    int next = 0;
    fetch_terms(team, op, panels, 0, places);
    for (int first = 0; first < terms; first += kRun, next ^= 1) {
      wait_for_copies();
      wait_for_all();
      float* place = places + next * place_floats;
      // The other place was read before the wait.
      if (first + kRun < terms) {
        fetch_terms(team, op, panels, first + kRun, places + (next ^ 1) * place_floats);
      }
      if (!plays) continue;
      float sum[kStagedOuts][kSteps] = {};
      add_terms(team, op, time + lane, first, place + panel * panel_floats, sum);
      move_to_total(total, sum);
    }
    if (plays) finish_tile(team, op, 0, panel, time + lane, total);
    // The places are written again by the next pass, or by who comes after.
    wait_for_all();
  }
}

}  // namespace fxfast::cuda
