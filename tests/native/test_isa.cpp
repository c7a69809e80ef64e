#include <cstdlib>
#include <string>

#include "base/check.h"
#include "kernels/choose_isa.h"
#include "testing.h"

namespace {

using namespace fxfast;

TEST(best_supported_instruction_set_is_the_default) {
  unsetenv("FXFAST_ISA");
  for (const KernelTable* table : built_kernels()) {
    if (!machine_supports(*table)) continue;
    CHECK(&choose_kernels(nullptr) == table);
    break;
  }
}

TEST(a_forced_instruction_set_is_used_or_refused) {
  for (const KernelTable* table : built_kernels()) {
    setenv("FXFAST_ISA", table->name, 1);
    if (machine_supports(*table)) {
      CHECK(&choose_kernels(nullptr) == table);
    } else {
      CHECK_THROWS(choose_kernels(nullptr), IsaError, "that this machine has");
    }
  }
  setenv("FXFAST_ISA", "sse9", 1);
  CHECK_THROWS(choose_kernels(nullptr), IsaError, "got 'sse9'");
  CHECK(std::string(choose_kernels("reference").name) == "reference");
  unsetenv("FXFAST_ISA");
  CHECK_THROWS(choose_kernels("Reference"), IsaError, "expected one of");
}

}  // namespace
