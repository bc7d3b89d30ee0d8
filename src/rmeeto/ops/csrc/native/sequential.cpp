// In place of parallel.cpp and helpers.cpp where there are no threads: the caller does everything.
#include "parallel.h"
#include "work.h"

namespace rmeeto {

bool for_each(int64_t items, int, size_t scratch_bytes, Body body, const void* job, Own own) {
    Work work{items, scratch_bytes, body, job, own};
    take_the_callers_part(work);
    return !work.out_of_memory;
}

bool for_all(int64_t items, int, bool (*body)(const void* job, int64_t item), const void* job) {
    bool all = true;
    for (int64_t item = 0; item < items; item++) all &= body(job, item);
    return all;
}

}  // namespace rmeeto
