// One call of for_each: items that several threads take from one counter.
#pragma once

#include <atomic>

#include "memory.h"
#include "parallel.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace rmeeto {

struct Work {
    int64_t items;
    size_t scratch_bytes;
    Body body;
    const void* job;
    Own own;
    std::atomic<int64_t> next{0};
    std::atomic<bool> out_of_memory{false};
};

// Numbers below 1e-38 take a slow path in many processors and mean nothing here: they count as zero while we work.
class TinyNumbersAreZero {
#if defined(__SSE2__)
public:
    TinyNumbersAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~TinyNumbersAreZero() { _mm_setcsr(before_); }

private:
    unsigned before_;
#else
public:
    TinyNumbersAreZero() {}
    ~TinyNumbersAreZero() {}
#endif
};

// Takes items until none is left, or until `may_go_on()`, asked before each item, is false. Returns how many it took.
template <class MayGoOn>
int64_t take_items(Work& work, MayGoOn may_go_on) {
    void* const scratch = reserve_scratch(work.scratch_bytes);
    if (!scratch && work.scratch_bytes) {
        work.out_of_memory = true;
        return 0;
    }
    const TinyNumbersAreZero mode;
    int64_t taken = 0;
    for (int64_t item; may_go_on() && (item = work.next.fetch_add(1, std::memory_order_relaxed)) < work.items; taken++)
        work.body(work.job, item, scratch);
    return taken;
}

inline int64_t take_items(Work& work) {
    return take_items(work, [] { return true; });
}

// What the caller does while others take items.
inline void take_the_callers_part(Work& work) {
    if (work.own) work.own(work.job);
    take_items(work);
}

// Does all of the work, with the help of up to `threads` - 1 threads of our own, which callers on several threads share.
// The caller never waits for a helper that has not begun: on a busy machine the system may not run it for many
// milliseconds, and by then the caller has done all the work itself.
void run_with_helpers(Work& work, int threads);

}  // namespace rmeeto
