#include "work.h"

#include <initializer_list>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "patience.h"
#include "word.h"

#if defined(__unix__) || defined(__APPLE__)
#include <csignal>
#endif

namespace rmeeto {
namespace {

// How long a helper on a crowded core works before it rests for as long. Also the slice of time that helpers ask the
// system for. Usual slices are longer: the system lets a thread with a short one in sooner when it wakes.
constexpr int64_t TURN = 1 * MILLISECOND;
// Between two calls of for_each in one pass a helper stays awake, and a caller awaits the last items awake.
constexpr int64_t HELPER_SPINS = 50 * MICROSECOND, CALLER_SPINS = 1 * MILLISECOND;
constexpr int MOST_HELPERS = 255;

void spin() {
#if defined(__SSE2__)
    _mm_pause();
#endif
}

// Priority and share of the processor stay as they are. Linux before 6.12 takes the request and ignores it.
void ask_for_short_slices() {
#if defined(SYS_sched_setattr) && defined(SYS_sched_getattr)
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
        uint32_t least, most;
    } attributes{};
    constexpr uint32_t ORDINARY = 0;
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) || attributes.policy != ORDINARY) return;
    attributes.runtime = TURN;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
}

// When a helper works and when it rests. One that the system takes off its core in the middle of an item keeps its caller
// waiting while others use the core. After that, for a while, it works in turns and rests between them: the core goes to
// others while the helper holds no item.
class Turns {
public:
    void begin() { began_ = now(); }
    bool is_over(int64_t time) const { return crowded_.lasts(time) && time - began_ >= TURN; }
    void rest() {
        std::this_thread::sleep_for(std::chrono::nanoseconds(TURN));
        begin();
    }

    void begin_items() { lost_.begin(); }
    // To be asked after each item.
    void look_back(int64_t time) {
        if (time - lost_.began() < INTERRUPTION) return;
        if (lost_.so_far(time) >= INTERRUPTION) crowded_.disturb(time);
        lost_.begin();
    }

private:
    static constexpr int64_t INTERRUPTION = 1 * MILLISECOND;
    Patience crowded_;
    LostTime lost_;
    int64_t began_ = 0;
};

class alignas(64) Helper {
public:
    bool reserve() { return !is_reserved_.exchange(true, std::memory_order_acquire); }
    void leave() { is_reserved_.store(false, std::memory_order_release); }

    void offer(Work& work) {
        work_ = &work;
        if (state_.value.exchange(OFFERED) == ASLEEP) state_.wake();
    }

    // Takes the offer back from a helper that has not begun, and waits for one that has.
    void withdraw() {
        uint32_t state = OFFERED;
        if (state_.value.compare_exchange_strong(state, IDLE)) return;
        const int64_t end = now() + CALLER_SPINS;
        while (state_.value.load() == WORKING && now() < end) spin();
        state = WORKING;
        state_.value.compare_exchange_strong(state, AWAITED);
        while (state_.value.load() == AWAITED) state_.sleep_while(AWAITED);
    }

    // What its thread does until the process ends.
    void serve() {
        ask_for_short_slices();
        turns_.begin();
        for (;;) {
            await_offer();
            if (turns_.is_over(now())) {
                turns_.rest();
                continue;
            }
            uint32_t state = OFFERED;
            if (state_.value.compare_exchange_strong(state, WORKING)) work();
        }
    }

private:
    enum State : uint32_t { IDLE, ASLEEP, OFFERED, WORKING, AWAITED };

    void await_offer() {
        int64_t end = now() + HELPER_SPINS;
        while (state_.value.load() != OFFERED) {
            uint32_t state = IDLE;
            if (now() < end) {
                spin();
            } else if (state_.value.compare_exchange_strong(state, ASLEEP)) {
                while (state_.value.load() == ASLEEP) state_.sleep_while(ASLEEP);
                turns_.begin();
                end = now() + HELPER_SPINS;
            }
        }
    }

    void work() {
        turns_.begin_items();
        take_items(*work_, [this] {
            const int64_t time = now();
            turns_.look_back(time);
            return !turns_.is_over(time);
        });
        if (state_.value.exchange(IDLE) == AWAITED) state_.wake();  // the caller may have gone on: the work is no more
    }

    Word state_;
    Work* work_ = nullptr;  // of the last offer
    std::atomic<bool> is_reserved_{false};
    Turns turns_;
};

// Signals sent to the process go to other threads: an application's handlers do not expect this one.
bool start_thread(Helper& helper) {
#if defined(__unix__) || defined(__APPLE__)
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (const int own_fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&blocked, own_fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
#endif
    bool is_started = true;
    try {
        std::thread(&Helper::serve, &helper).detach();
    } catch (const std::system_error&) {
        is_started = false;
    }
#if defined(__unix__) || defined(__APPLE__)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    return is_started;
}

// All helpers of the process. The first ones are reserved first, since they are the likeliest to be awake.
class Helpers {
public:
    // Up to `wanted` of them, into `found`.
    int reserve(int wanted, Helper** found) {
        int count = 0;
        for (int i = 0; i < MOST_HELPERS && count < wanted; i++) {
            Helper* helper = all_[i].load(std::memory_order_acquire);
            if (!helper && !(helper = start(i, wanted))) break;
            if (helper->reserve()) found[count++] = helper;
        }
        return count;
    }

private:
    // One more than there are, if the machine has a core for it or a single caller wants it; null otherwise.
    Helper* start(int place, int wanted) {
        static const int cores = (int)std::thread::hardware_concurrency();
        if (is_full_ || place >= (wanted < cores ? cores - 1 : wanted)) return nullptr;
        const std::unique_lock<std::mutex> lock(starting_, std::try_to_lock);
        if (!lock) return nullptr;  // another caller is at it; this one begins without
        if (Helper* const other = all_[place]) return other;
        Helper* const helper = new (std::nothrow) Helper;
        if (helper && start_thread(*helper)) {
            all_[place].store(helper, std::memory_order_release);
            return helper;
        }
        delete helper;
        is_full_ = true;
        return nullptr;
    }

    std::mutex starting_;
    std::atomic<bool> is_full_{false};  // the system gives no more threads
    std::atomic<Helper*> all_[MOST_HELPERS] = {};
};

// Never destroyed: helpers sleep in it while the process ends.
Helpers& helpers() {
    static Helpers* const all = new Helpers;
    return *all;
}

}  // namespace

void run_with_helpers(Work& work, int threads) {
    Helper* found[MOST_HELPERS];
    const int count = helpers().reserve(threads - 1 < MOST_HELPERS ? threads - 1 : MOST_HELPERS, found);
    for (int i = 0; i < count; i++) found[i]->offer(work);
    take_the_callers_part(work);
    for (int i = 0; i < count; i++) found[i]->withdraw();
    for (int i = 0; i < count; i++) found[i]->leave();
}

}  // namespace rmeeto
