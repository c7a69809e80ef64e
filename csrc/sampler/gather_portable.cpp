// Whatever the compiler's baseline is: 4 floats a vector.
#include "sampler/gather_table.h"

#define FXFAST_ISA_NAMESPACE portable
#define FXFAST_VECTOR_FLOATS 4

namespace fxfast {
namespace {

#include "sampler/gather_body.inl"

}  // namespace

const GatherTable& portable_gather() {
  static constexpr GatherTable table = {"portable", portable::feistel, portable::gather_float,
                                        portable::gather_int16};
  return table;
}

}  // namespace fxfast
