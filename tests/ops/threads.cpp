// Scenarios for the threads that share a kernel's work, without a kernel:
//
//     threads SCENARIO
//
// tests/ops/test_threads.py compiles and runs it. Exits with 1, and says what was wrong, if a scenario fails. Also meant
// for the thread sanitizer (see there).
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "parallel.h"

using rmeeto::for_each;
using Clock = std::chrono::steady_clock;

namespace {

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "not true: %s\n", what);
    std::_Exit(1);
}

void pause_for(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void work_for(int microseconds) {
    const auto begin = Clock::now();
    while (seconds_since(begin) < 1e-6 * microseconds) {}
}

// Counts are plain integers: the sanitizer, and the sums, notice two threads at one item, or a caller that goes on early.
struct Counted {
    std::vector<int>& times;
    std::thread::id caller;
    int caller_works_for, helper_pauses_for;  // microseconds in each item
    mutable std::atomic<int> by_helpers{0};
};

void count_item(const void* pointer, int64_t item, void* scratch) {
    const Counted& job = *static_cast<const Counted*>(pointer);
    if (std::this_thread::get_id() != job.caller) {
        job.by_helpers++;
        if (job.helper_pauses_for) pause_for(job.helper_pauses_for);
    } else {
        work_for(job.caller_works_for);
    }
    if (scratch) std::memset(scratch, (int)item, 64);
    job.times[(size_t)item]++;
}

// Returns how many items others than the caller did.
int share(int64_t items, int threads, int caller_works_for = 0, int helper_pauses_for = 0) {
    std::vector<int> times((size_t)items);
    const Counted job{times, std::this_thread::get_id(), caller_works_for, helper_pauses_for};
    check(for_each(items, threads, 64, count_item, &job), "there is memory for the scratch");
    for (const int count : times) check(count == 1, "each item is done once");
    return job.by_helpers;
}

void share_often(unsigned seed, int rounds) {
    for (int i = 0; i < rounds; i++) {
        seed = seed * 1103515245 + 12345;
        share(seed >> 16 & 31, 1 + (int)(seed >> 22 & 7), 0, seed >> 26 & 31 ? 0 : 200);
    }
}

void many_callers() {
    std::vector<std::thread> callers;
    for (unsigned seed = 0; seed < 6; seed++) callers.emplace_back(share_often, seed, 400);
    for (std::thread& caller : callers) caller.join();
}

// A caller waits for an item that a helper has begun, and for nothing else.
void stalled_in_an_item() {
    for (int i = 0; i < 20; i++) share(40, 4);  // helpers are there
    int by_helpers = 0;
    for (int i = 0; i < 5 && !by_helpers; i++) by_helpers = share(200, 2, 50, 50'000);
    check(by_helpers == 1, "a stalled helper has one item, and the caller all others");
    std::atomic<bool> is_over{false};
    std::thread stalled([&] {
        share(200, 8, 50, 700'000);
        is_over = true;
    });
    pause_for(20'000);
    for (int i = 0; i < 50; i++) share(20, 8);
    check(!is_over, "a caller does not wait for helpers that are stalled with another's work");
    stalled.join();
}

// Helpers that the system lets in at no time: of the lowest kind there is, on one core with a caller that never rests.
void never_let_in() {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    check(!sched_setaffinity(0, sizeof one, &one), "a process may keep to one core");
    for (int i = 0; i < 20; i++) share(40, 4);
    const sched_param lowest{};
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        const int thread = std::stoi(task.path().filename());
        if (thread != getpid()) check(!sched_setscheduler(thread, SCHED_IDLE, &lowest), "a thread may become idle");
    }
    pause_for(10'000);
    int by_helpers = 0;
    for (int i = 0; i < 5000; i++) by_helpers += share(20, 4, 5);
    check(by_helpers < 5000 * 20 / 5, "the caller did nearly everything");
}

void share_within(const void* pointer, int64_t item, void*) {
    share(7, 3);
    static_cast<std::atomic<int>*>(const_cast<void*>(pointer))[item]++;
}

void nested() {
    for (int i = 0; i < 100; i++) {
        std::atomic<int> times[5] = {};
        check(for_each(5, 3, 0, share_within, times), "no memory is wanted");
        for (const auto& count : times) check(count == 1, "each item is done once");
    }
}

void out_of_memory() {
    std::vector<int> times(50);
    const Counted job{times, std::this_thread::get_id(), 0, 0};
    check(!for_each(50, 4, (size_t)1 << 62, count_item, &job), "a call without memory fails");
    share(50, 4);
}

bool fails_at_the_last(const void*, int64_t item) { return item != 49; }
bool succeeds(const void*, int64_t) { return true; }

void failure() {
    check(!rmeeto::for_all(50, 4, fails_at_the_last, nullptr), "a failed item is told");
    check(rmeeto::for_all(50, 4, succeeds, nullptr), "and only that");
}

// While other threads of the parent work; a child has none of them.
void forked_in_the_middle() {
    std::atomic<bool> is_over{false};
    std::thread busy([&] {
        while (!is_over) share(30, 4);
    });
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        if (!child) {
            const int by_helpers = share(30, 4);
            _exit(by_helpers ? 2 : 0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        check(!status, "a child does all of its work, alone");
        share(30, 4);
    }
    is_over = true;
    busy.join();
}

// The process ends while a helper works, and others sleep.
void ends_in_the_middle() {
    std::vector<int>& times = *new std::vector<int>(100'000);
    const Counted& job = *new Counted{times, std::this_thread::get_id(), 0, 1000};
    std::thread([&job] { for_each(100'000, 4, 64, count_item, &job); }).detach();
    pause_for(20'000);
}

struct Scenario {
    const char* name;
    void (*run)();
};

constexpr Scenario SCENARIOS[] = {
    {"many_callers", many_callers}, {"stalled_in_an_item", stalled_in_an_item}, {"never_let_in", never_let_in},
    {"nested", nested}, {"out_of_memory", out_of_memory}, {"failure", failure},
    {"forked_in_the_middle", forked_in_the_middle}, {"ends_in_the_middle", ends_in_the_middle},
};

}  // namespace

int main(int, char** arguments) {
    for (const Scenario& scenario : SCENARIOS)
        if (!std::strcmp(scenario.name, arguments[1])) {
            scenario.run();
            return 0;
        }
    return 2;
}
