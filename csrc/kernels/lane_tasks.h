// The part of kernel_table.h that is about rows in lanes and convolutions by transforms.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fxfast {

enum class Activation : std::uint32_t;

// Lanes: a layout of time for transforms. kLanes blocks of kLaneBlock samples in a row stand side
// by side, sample t of all blocks before sample t + 1 of any:
//   row[t * kLanes + lane] = signal[lane * kLaneBlock + t]
// and in front of them, for t < 0, the last samples of the blocks before. So a vector operation
// works on the same sample of several blocks, and a convolution of dilation d is one of dilation
// d * kLanes on the row.
constexpr int kLanes = 16;
constexpr int kLaneBlock = 112;
constexpr int kLanePiece = kLanes * kLaneBlock;  // samples that a row holds

// Between rows of kLanePiece samples and rows in lanes, either way.
struct LanesTask {
  const float* input;
  float* output;
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  int channels;
};

// The `history` samples of each row in lanes that stand before its first, from the ends of the
// blocks of this piece; the first lane's come from `carry`, a row of `history` floats a channel,
// which then has those for the next piece.
struct CarryTask {
  float* rows;  // at sample 0
  float* carry;
  std::ptrdiff_t stride;
  int channels;
  int history;
};

// The convolution of ConvTask, dilation 1 and nothing added, on rows in lanes by transforms of
// kTransform samples of each block. Taps beyond kSegmentTaps are rows of their own, which read
// earlier samples. Two real rows make one complex signal z; row 2p of bin b holds Z[b] and row
// 2p + 1 conj(Z[kTransform - b]), and so in the spectra of the output. In bins 0 and kTransform/2
// both are real: the values of the two rows.
// Weights: spectral_table_floats of cosine and negative sine of each 1/kTransform of a turn; then
// per bin panels of output rows (kSpectralPanel, the last may be narrower), each of three real
// matrices [row in][row of the panel]. With a + ib the weight and c + id the input they are a,
// -(a + b) and b - a: re = a (c + d) - (a + b) d, im = a (c + d) + (b - a) c. Bins 0 and
// kTransform/2 use the first alone.
constexpr int kTransform = 128;
// The first sample of a transform back that its segment's taps do not wrap around to.
constexpr int kSpectralStart = kTransform - kLaneBlock;
constexpr int kSegmentTaps = kSpectralStart + 1;
constexpr int kSpectralPanel = 16;
constexpr int kBins = kTransform / 2 + 1;
constexpr std::ptrdiff_t kSpectralTableFloats = 2 * kTransform;
constexpr int spectral_segments(int taps) { return (taps + kSegmentTaps - 1) / kSegmentTaps; }
constexpr std::ptrdiff_t spectral_rows_in(std::ptrdiff_t in_channels, int taps) {
  return (in_channels + 1) / 2 * 2 * spectral_segments(taps);
}
constexpr std::ptrdiff_t spectral_rows_out(std::ptrdiff_t out_channels) {
  return (out_channels + 3) / 4 * 4;
}
// Floats from one bin of `rows` rows to the next: an odd number of cache lines.
constexpr std::ptrdiff_t spectral_bin_floats(std::ptrdiff_t rows) {
  return (2 * rows + 1) * kLanes;
}
constexpr std::ptrdiff_t spectral_work_floats(std::ptrdiff_t rows_in, std::ptrdiff_t rows_out) {
  return kBins * (spectral_bin_floats(rows_in) + spectral_bin_floats(rows_out)) +
         2 * kTransform * kLanes;
}

struct SpectralTask {
  const float* input;  // at the first sample of the blocks, with taps - 1 before it
  float* output;
  const float* weights;
  const float* bias;
  const float* params;  // of the activation
  float* work;          // spectral_work_floats
  std::ptrdiff_t input_stride;
  std::ptrdiff_t output_stride;
  int in_channels;
  int out_channels;
  int taps;
  Activation activation;
};

}  // namespace fxfast
