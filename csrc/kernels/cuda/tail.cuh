// The taps of a long filter from kTailBlock on, by transforms (partitioned overlap-save): whenever a
// stream, its warm-up included, has a whole block, the spectra of what came so far times those of
// the taps are the share of these taps in the next block. So every sum stands at a fixed place of
// the stream, whatever the split.
//
// The state: the block before and the present one | the share of the present block | spectra of
// windows of two blocks, in a ring. Spectra stand in the order that the butterflies leave.
#pragma once

#include "kernels/cuda/team.cuh"

namespace fxfast::cuda {

// In place, radix 2, natural order to the order of bits reversed; `twiddles` are cos and sin of
// -2 pi k / kTailBins.
FXFAST_DEVICE void transform_forth(float* re, float* im, const float* twiddles) {
  for (int half = kTailBins / 2; half >= 1; half /= 2) {
    wait_for_all();
    for (int i = thread_index(); i < kTailBins / 2; i += thread_count()) {
      const int k = i % half, a = (i - k) * 2 + k, b = a + half;
      const int turn = k * (kTailBins / 2 / half);
      const float c = twiddles[2 * turn], s = twiddles[2 * turn + 1];
      const float dr = re[a] - re[b], di = im[a] - im[b];
      re[a] += re[b], im[a] += im[b];
      re[b] = multiply_add(dr, c, -(di * s)), im[b] = multiply_add(dr, s, di * c);
    }
  }
  wait_for_all();
}

// The way back, without the division by kTailBins.
FXFAST_DEVICE void transform_back(float* re, float* im, const float* twiddles) {
  for (int half = 1; half < kTailBins; half *= 2) {
    wait_for_all();
    for (int i = thread_index(); i < kTailBins / 2; i += thread_count()) {
      const int k = i % half, a = (i - k) * 2 + k, b = a + half;
      const int turn = k * (kTailBins / 2 / half);
      const float c = twiddles[2 * turn], s = twiddles[2 * turn + 1];
      const float br = multiply_add(re[b], c, im[b] * s);
      const float bi = multiply_add(im[b], c, -(re[b] * s));
      re[b] = re[a] - br, im[b] = im[a] - bi;
      re[a] += br, im[a] += bi;
    }
  }
  wait_for_all();
}

// After block `number` of a stream: its spectrum, and the share of the next block.
FXFAST_DEVICE void end_block(const Team& team, const CudaOp& op, float* state,
                             std::int64_t number) {
  float *re = shared_memory() + op.scratch, *im = re + kTailBins;
  float *window = state, *share = state + 2 * kTailBlock, *spectra = share + kTailBlock;
  const float* twiddles = team.floats + op.params;
  const float* responses = team.floats + op.weights;
  const int parts = op.history;
  for (int i = thread_index(); i < kTailBins; i += thread_count()) {
    const bool known = i >= kTailBlock || number > 0;
    re[i] = known ? window[i] : 0.0f, im[i] = 0.0f;
  }
  transform_forth(re, im, twiddles);
  float* newest = spectra + number % parts * (2 * kTailBins);
  for (int i = thread_index(); i < kTailBins; i += thread_count()) {
    if (i >= kTailBlock) window[i - kTailBlock] = window[i];
    newest[2 * i] = re[i], newest[2 * i + 1] = im[i];
    float sum_re = 0.0f, sum_im = 0.0f;
    for (int p = 0; p < parts && p <= number; ++p) {
      const float* x = spectra + (number - p) % parts * (2 * kTailBins) + 2 * i;
      const float* h = responses + p * (2 * kTailBins) + 2 * i;
      sum_re = multiply_add(x[0], h[0], multiply_add(-x[1], h[1], sum_re));
      sum_im = multiply_add(x[0], h[1], multiply_add(x[1], h[0], sum_im));
    }
    re[i] = sum_re, im[i] = sum_im;
  }
  transform_back(re, im, twiddles);
  for (int i = thread_index(); i < kTailBlock; i += thread_count()) {
    share[i] = re[kTailBlock + i] * (1.0f / kTailBins);
  }
  wait_for_all();
}

// Adds to what the first taps have made.
FXFAST_DEVICE void filter_tail(const Team& team, const CudaOp& op) {
  for (int s = 0; s < team.streams; ++s) {
    float* state = team.state(s) + op.state;
    const int samples = team.samples(s);
    for (int done = 0; done < samples;) {
      const std::int64_t position = team.position(s) + done, number = position / kTailBlock;
      const int at = static_cast<int>(position % kTailBlock);
      const int n = kTailBlock - at < samples - done ? kTailBlock - at : samples - done;
      const float* x = team.row(s, op.a, 0) + done;
      float* y = team.row(s, op.output, 0) + done;
      for (int t = thread_index(); t < n; t += thread_count()) {
        state[kTailBlock + at + t] = x[t];
        if (number > 0) y[t] += state[2 * kTailBlock + at + t];
      }
      wait_for_all();
      if (at + n == kTailBlock) end_block(team, op, state, number);
      done += n;
    }
  }
}

}  // namespace fxfast::cuda
