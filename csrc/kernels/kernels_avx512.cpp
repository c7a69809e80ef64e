// AVX-512 (x86-64-v4): 16 floats a vector, 32 registers.
#include "kernels/kernel_table.h"

#define FXFAST_ISA_NAMESPACE avx512
#define FXFAST_VECTOR_FLOATS 16
#define FXFAST_VECTOR_REGISTERS 32
#define FXFAST_HAS_FMA 1

namespace fxfast {
namespace {

#include "kernels/kernels_body.inl"
#include "kernels/layer_body.inl"
#include "kernels/recurrent_body.inl"
#include "kernels/rows_body.inl"
#include "kernels/weight_grad_body.inl"

}  // namespace

const KernelTable& avx512_kernels() {
  static constexpr KernelTable table = {
      "avx512",          Requires::kX86_64_v4, FXFAST_VECTOR_FLOATS,
      avx512::conv,      avx512::activate,     avx512::combine,
      avx512::recurrent, avx512::weight_grad,  avx512::multiply_add_burst,
      avx512::layer};
  return table;
}

}  // namespace fxfast
