#include "kernels/choose_isa.h"

#include <cstdlib>
#include <string>

#include "base/check.h"

namespace fxfast {

const std::vector<const KernelTable*>& built_kernels() {
  static const std::vector<const KernelTable*> tables = {
#ifdef FXFAST_X86_64
      &avx512_kernels(), &avx2_kernels(),
#endif
      &portable_kernels(), &reference_kernels()};
  return tables;
}

bool machine_supports(const KernelTable& table) {
#ifdef FXFAST_X86_64
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512cd");
  if (table.required == Requires::kX86_64_v4) return v4;
  if (table.required == Requires::kX86_64_v3) return v3;
#endif
  return table.required == Requires::kNone;
}

const KernelTable& choose_kernels(const char* name) {
  std::string wanted = name == nullptr ? "" : name;
  std::string origin = "isa";
  if (wanted.empty()) {
    const char* forced = std::getenv("FXFAST_ISA");
    wanted = forced == nullptr ? "" : forced;
    origin = "FXFAST_ISA";
  }
  std::string known;
  for (const KernelTable* table : built_kernels()) {
    if (wanted.empty() ? machine_supports(*table) : wanted == table->name) {
      if (machine_supports(*table)) return *table;
      throw IsaError(origin + ": expected an instruction set that this machine has, got '" +
                     wanted + "'");
    }
    known += known.empty() ? "" : ", ";
    known += table->name;
  }
  throw IsaError(origin + ": expected one of " + known + ", got '" + wanted + "'");
}

}  // namespace fxfast
