// Threads of our own that help with a caller's work. The caller never waits for a helper that has not begun: on a busy
// machine the system may not run it for many milliseconds, and by then the caller has done all the work itself.
#pragma once

#include "work.h"

namespace rmeeto {

// Does all of the work, with the help of up to `threads` - 1 others. Callers on several threads share the helpers.
void run_with_helpers(Work& work, int threads);

}  // namespace rmeeto
