// Whatever the compiler's baseline is: 4 floats a vector, 16 registers (SSE2, NEON).
#include "kernels/kernel_table.h"

#define FXFAST_ISA_NAMESPACE portable
#define FXFAST_VECTOR_FLOATS 4
#define FXFAST_VECTOR_REGISTERS 16
#define FXFAST_HAS_FMA 0

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

const KernelTable& portable_kernels() {
  static constexpr KernelTable table = {"portable",
                                        Requires::kNone,
                                        FXFAST_VECTOR_FLOATS,
                                        portable::conv,
                                        portable::activate,
                                        portable::combine,
                                        portable::recurrent,
                                        portable::weight_grad,
                                        portable::multiply_add_burst,
                                        portable::fir,
                                        portable::spectrum_sum,
                                        portable::spectrum_block,
                                        portable::spectrum_filter,
                                        portable::in_lanes::to_lanes,
                                        portable::in_lanes::from_lanes,
                                        portable::in_lanes::carry_lanes,
                                        portable::in_lanes::spectral,
                                        portable::layer,
                                        portable::delay,
                                        portable::level_gain};
  return table;
}

}  // namespace fxfast
