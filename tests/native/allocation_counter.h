// Counts allocations of the current thread, to show that real-time code makes none.
#pragma once

namespace testing {

// Allocations by operator new of this thread so far.
long allocations();

}  // namespace testing
