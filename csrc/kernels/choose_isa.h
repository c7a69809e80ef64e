// Which kernels run: a visible list, best first, chosen when a player is made.
#pragma once

#include <vector>

#include "kernels/kernel_table.h"

namespace fxfast {

// Every kernel table that was built, best first; the last is the reference.
const std::vector<const KernelTable*>& built_kernels();

// Whether this machine can run the table's instructions.
bool machine_supports(const KernelTable& table);

// The table called `name`; with nullptr or "", the one that the environment variable FXFAST_ISA
// names, else the best that this machine supports. Throws IsaError for a name that is unknown
// or that the machine does not support: a forced choice never falls back.
const KernelTable& choose_kernels(const char* name);

}  // namespace fxfast
