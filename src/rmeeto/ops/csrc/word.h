// A number that threads sleep on until another thread changes it.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <condition_variable>
#include <mutex>
#endif

namespace rmeeto {

class Word {
public:
    std::atomic<uint32_t> value{0};

#if defined(__linux__)
    // Returns when the value is not, or no longer, `seen`; sometimes earlier.
    void sleep_while(uint32_t seen) { syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0); }
    // Wakes the thread that sleeps, after a change.
    void wake() { syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }
#else
    void sleep_while(uint32_t seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return value.load() != seen; });
    }
    void wake() {
        { const std::lock_guard<std::mutex> lock(mutex_); }  // a thread about to sleep has looked, or will see the change
        changed_.notify_one();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
#endif
};

}  // namespace rmeeto
