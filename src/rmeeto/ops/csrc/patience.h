// Time, and how long to assume that the machine is busy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

namespace rmeeto {

// All times are in nanoseconds.
constexpr int64_t MICROSECOND = 1000, MILLISECOND = 1000 * MICROSECOND;

inline int64_t now() {
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// How long this thread has been running on a core, since some moment; time itself where the system does not tell.
inline int64_t running_time() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000 * MILLISECOND + time.tv_nsec;
#else
    return now();
#endif
}

// How long this thread could have been running and was not.
class LostTime {
public:
    void begin() { began_ = now(), ran_ = running_time(); }
    int64_t so_far(int64_t time) const { return (time - began_) - (running_time() - ran_); }
    int64_t began() const { return began_; }

private:
    int64_t began_ = 0, ran_ = 0;
};

// A disturbance begins a period in which to be careful. One that follows soon after the last period begins one twice as
// long: on a machine that stays busy, each end of a period is an attempt that costs some milliseconds.
class Patience {
public:
    bool lasts(int64_t time) const { return time < end_.load(std::memory_order_relaxed); }
    void disturb(int64_t time) {
        const int64_t length = length_.load(std::memory_order_relaxed), end = end_.load(std::memory_order_relaxed);
        const int64_t twice = 2 * length < LONGEST ? 2 * length : LONGEST;
        const int64_t next = time < end + length ? twice : SHORTEST;
        length_.store(next, std::memory_order_relaxed);
        end_.store(time + next, std::memory_order_relaxed);
    }

private:
    static constexpr int64_t SHORTEST = 100 * MILLISECOND, LONGEST = 1600 * MILLISECOND;
    std::atomic<int64_t> end_{0}, length_{0};
};

}  // namespace rmeeto
