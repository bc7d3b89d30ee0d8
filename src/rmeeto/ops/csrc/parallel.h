// Work shared among threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory.h"

namespace rmeeto {

// Runs one item with this thread's scratch memory.
using Body = void (*)(const void* job, int64_t item, void* scratch);
// Done once, by the thread that calls for_each.
using Own = void (*)(const void* job);

// Calls body(job, item, scratch) for every item in [0, items) on up to `threads` threads, each with its own
// `scratch_bytes` of memory on a 64-byte boundary, and returns when all are done; false if memory ran out.
// Which thread takes which item is left to chance: bodies must not depend on it. The caller does its own first, if there
// is something that no other thread may do.
bool for_each(int64_t items, int threads, size_t scratch_bytes, Body body, const void* job, Own own = nullptr);

// The same for bodies that may fail; false if one did.
bool for_all(int64_t items, int threads, bool (*body)(const void* job, int64_t item), const void* job);

}  // namespace rmeeto
