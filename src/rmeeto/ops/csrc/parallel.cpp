#include "parallel.h"

#include <atomic>
#include <thread>

#include "patience.h"
#include "work.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace rmeeto {
namespace {

// PyTorch's own OpenMP runtime, when the caller has found it: its threads spin for some milliseconds after each of
// PyTorch's operations, and would share the cores with any others.
using GompParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
std::atomic<GompParallel> gomp_parallel{nullptr};

// A forked child has none of its parent's threads.
bool forked = false;

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

// OpenMP's threads all have to come to the end of a call, whether there was anything left for them or not. On a busy
// machine that takes until the system has let each of them in, so for a while our own helpers do the work instead.
Patience crowded;

// Time that this thread has spent waiting for threads that were not running, less a tolerated share of all time.
thread_local int64_t waited_in_vain = 0;
constexpr int64_t TOLERATED_SHARE = 8;  // an eighth
constexpr int64_t INTOLERABLE = 3 * MILLISECOND;

struct OpenmpCall {
    Work& work;
    std::thread::id caller;
    int64_t began;
    int64_t done = 0;               // when the caller found no more items
    std::atomic<int64_t> lost{0};  // the most that another thread was not running, from the beginning on
};

void take_part(void* pointer) {
    OpenmpCall& call = *static_cast<OpenmpCall*>(pointer);
    if (std::this_thread::get_id() == call.caller) {
        take_the_callers_part(call.work);
        call.done = now();
        return;
    }
    LostTime time;
    time.begin();
    take_items(call.work);
    const int64_t lost = time.so_far(now()) + (time.began() - call.began);
    int64_t most = call.lost.load(std::memory_order_relaxed);
    while (lost > most && !call.lost.compare_exchange_weak(most, lost)) {}
}

void run_on_openmp(GompParallel parallel, Work& work, int threads) {
    OpenmpCall call{work, std::this_thread::get_id(), now()};
    parallel(take_part, &call, static_cast<unsigned>(threads), 0);
    const int64_t end = now(), waited = end - call.done, lost = call.lost.load();
    waited_in_vain += (waited < lost ? waited : lost) - (end - call.began) / TOLERATED_SHARE;
    if (waited_in_vain < 0) waited_in_vain = 0;
    if (waited_in_vain < INTOLERABLE) return;
    waited_in_vain = 0;
    crowded.disturb(end);
}

}  // namespace

bool for_each(int64_t items, int threads, size_t scratch_bytes, Body body, const void* job, Own own) {
    Work work{items, scratch_bytes, body, job, own};
    const int64_t parts = own ? items + 1 : items;
    if (threads > parts) threads = static_cast<int>(parts);
    const GompParallel parallel = gomp_parallel.load(std::memory_order_relaxed);
    if (threads <= 1 || forked)
        take_the_callers_part(work);
    else if (parallel && !crowded.lasts(now()))
        run_on_openmp(parallel, work, threads);
    else
        run_with_helpers(work, threads);
    return !work.out_of_memory;
}

namespace {

struct Trial {
    bool (*body)(const void* job, int64_t item);
    const void* job;
    std::atomic<bool>& has_failed;
};

void try_item(const void* pointer, int64_t item, void*) {
    const Trial& trial = *static_cast<const Trial*>(pointer);
    if (!trial.body(trial.job, item)) trial.has_failed = true;
}

}  // namespace

bool for_all(int64_t items, int threads, bool (*body)(const void* job, int64_t item), const void* job) {
    std::atomic<bool> has_failed{false};
    const Trial trial{body, job, has_failed};
    return for_each(items, threads, 0, try_item, &trial) && !has_failed;
}

}  // namespace rmeeto

#if !defined(RMEETO_HIDES_KERNELS)
extern "C" __attribute__((visibility("default"))) void rmeeto_use_openmp(void* parallel) {
    rmeeto::gomp_parallel = reinterpret_cast<rmeeto::GompParallel>(parallel);
}
#endif
