#include "parallel.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace rmeeto {
namespace {

constexpr size_t LARGE_PAGE = 1 << 21;

std::align_val_t alignment(Pages pages) { return std::align_val_t{pages == Pages::LARGE ? LARGE_PAGE : 64}; }

void* allocate(size_t bytes, Pages pages = Pages::ORDINARY) {
    void* const memory = ::operator new(bytes, alignment(pages), std::nothrow);
#if defined(MADV_HUGEPAGE)
    // The rest behind the last whole page stays in ordinary ones, as all of it does where there are no others.
    if (memory && pages == Pages::LARGE) madvise(memory, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
    return memory;
}

void release(void* memory, Pages pages = Pages::ORDINARY) { ::operator delete(memory, alignment(pages)); }

// A thread keeps its scratch memory between calls: fresh pages would cost more than a small scan.
class Scratch {
public:
    void* reserve(size_t bytes) {
        if (bytes > size_) {
            release(data_);
            data_ = allocate(bytes);
            size_ = data_ ? bytes : 0;
        }
        return data_;
    }
    ~Scratch() { release(data_); }

private:
    void* data_ = nullptr;
    size_t size_ = 0;
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

struct Work {
    int64_t items;
    size_t scratch_bytes;
    Body body;
    const void* job;
    std::atomic<int64_t> next{0};
    std::atomic<bool> out_of_memory{false};
};

void take_items(void* pointer) {
    thread_local Scratch scratch;
    Work& work = *static_cast<Work*>(pointer);
    void* const memory = scratch.reserve(work.scratch_bytes);
    if (!memory && work.scratch_bytes) {
        work.out_of_memory = true;
        return;
    }
    const TinyNumbersAreZero mode;
    for (int64_t item; (item = work.next.fetch_add(1, std::memory_order_relaxed)) < work.items;)
        work.body(work.job, item, memory);
}

// PyTorch's own OpenMP runtime, when the caller has found it: its threads are awake already, and spinning. Threads of
// our own would share the cores with them.
using GompParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
GompParallel gomp_parallel = nullptr;

// A forked child has none of its parent's threads, and OpenMP would wait for them for ever.
bool forked = false;

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

void run_on_own_threads(Work& work, int threads) {
    std::vector<std::thread> helpers;
    try {
        for (int i = 1; i < threads; i++) helpers.emplace_back(take_items, &work);
    } catch (const std::system_error&) {
        // No more threads to be had; those that started, and this one, do the work.
    }
    take_items(&work);
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace

Buffer::Buffer(size_t bytes, Pages pages) : pages_(pages), data_(allocate(bytes, pages)) {}
Buffer::~Buffer() { release(data_, pages_); }

bool for_each(int64_t items, int threads, size_t scratch_bytes, Body body, const void* job) {
    Work work{items, scratch_bytes, body, job};
    if (threads > items) threads = static_cast<int>(items);
    if (threads <= 1 || forked)
        take_items(&work);
    else if (gomp_parallel)
        gomp_parallel(take_items, &work, static_cast<unsigned>(threads), 0);
    else
        run_on_own_threads(work, threads);
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

extern "C" __attribute__((visibility("default"))) void rmeeto_use_openmp(void* parallel) {
    rmeeto::gomp_parallel = reinterpret_cast<rmeeto::GompParallel>(parallel);
}
