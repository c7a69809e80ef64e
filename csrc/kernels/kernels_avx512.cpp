// AVX-512 (x86-64-v4): 16 floats a vector, 32 registers.
#include "kernels/kernel_table.h"

#define FXFAST_ISA_NAMESPACE avx512
#define FXFAST_VECTOR_FLOATS 16
#define FXFAST_VECTOR_REGISTERS 32
#define FXFAST_HAS_FMA 1

namespace fxfast {
namespace {

#include "kernels/kernels_body.inl"
#include "kernels/lane_transform_body.inl"
#include "kernels/layer_body.inl"
#include "kernels/level_gain_body.inl"
#include "kernels/line_delay_body.inl"
#include "kernels/recurrent_body.inl"
#include "kernels/row_fir_body.inl"
#include "kernels/rows_body.inl"
#include "kernels/spectral_body.inl"
#include "kernels/spectrum_body.inl"
#include "kernels/spectrum_filter_body.inl"
#include "kernels/weight_grad_body.inl"

}  // namespace

const KernelTable& avx512_kernels() {
  static constexpr KernelTable table = {"avx512",
                                        Requires::kX86_64_v4,
                                        FXFAST_VECTOR_FLOATS,
                                        avx512::conv,
                                        avx512::activate,
                                        avx512::combine,
                                        avx512::recurrent,
                                        avx512::weight_grad,
                                        avx512::multiply_add_burst,
                                        avx512::fir,
                                        avx512::spectrum_sum,
                                        avx512::spectrum_block,
                                        avx512::spectrum_filter,
                                        avx512::in_lanes::to_lanes,
                                        avx512::in_lanes::from_lanes,
                                        avx512::in_lanes::carry_lanes,
                                        avx512::in_lanes::spectral,
                                        avx512::layer,
                                        avx512::delay,
                                        avx512::level_gain};
  return table;
}

}  // namespace fxfast
