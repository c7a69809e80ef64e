// AVX2 and FMA (x86-64-v3): 8 floats a vector, 16 registers.
#include "kernels/kernel_table.h"

#define FXFAST_ISA_NAMESPACE avx2
#define FXFAST_VECTOR_FLOATS 8
#define FXFAST_VECTOR_REGISTERS 16
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

const KernelTable& avx2_kernels() {
  static constexpr KernelTable table = {"avx2",
                                        Requires::kX86_64_v3,
                                        FXFAST_VECTOR_FLOATS,
                                        avx2::conv,
                                        avx2::activate,
                                        avx2::combine,
                                        avx2::recurrent,
                                        avx2::weight_grad,
                                        avx2::multiply_add_burst,
                                        avx2::fir,
                                        avx2::spectrum_sum,
                                        avx2::spectrum_block,
                                        avx2::spectrum_filter,
                                        avx2::in_lanes::to_lanes,
                                        avx2::in_lanes::from_lanes,
                                        avx2::in_lanes::carry_lanes,
                                        avx2::in_lanes::spectral,
                                        avx2::layer,
                                        avx2::delay,
                                        avx2::level_gain};
  return table;
}

}  // namespace fxfast
