// AVX2 (x86-64-v3): 8 floats a vector.
#include "sampler/gather_table.h"

#define FXFAST_ISA_NAMESPACE avx2
#define FXFAST_VECTOR_FLOATS 8

namespace fxfast {
namespace {

#include "sampler/gather_body.inl"

}  // namespace

const GatherTable& avx2_gather() {
  static constexpr GatherTable table = {"avx2", avx2::feistel, avx2::gather_float,
                                        avx2::gather_int16};
  return table;
}

}  // namespace fxfast
