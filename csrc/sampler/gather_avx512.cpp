// AVX-512 (x86-64-v4): 16 floats a vector.
#include "sampler/gather_table.h"

#define FXFAST_ISA_NAMESPACE avx512
#define FXFAST_VECTOR_FLOATS 16

namespace fxfast {
namespace {

#include "sampler/gather_body.inl"

}  // namespace

const GatherTable& avx512_gather() {
  static constexpr GatherTable table = {"avx512", avx512::feistel, avx512::gather_float,
                                        avx512::gather_int16};
  return table;
}

}  // namespace fxfast
