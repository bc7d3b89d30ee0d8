// Whether a frozen model's inputs are unchanged: entries of Python's dictionaries, and tensors of PyTorch. No headers of
// either are needed: objects are addresses here, and the caller passes the functions that read them.
#pragma once

#include <atomic>
#include <cstring>

#include "interface.h"
#include "parallel.h"

namespace rmeeto {

constexpr int64_t SAMPLES = 2;   // words of each tensor
constexpr int64_t AT_ONCE = 16;  // tensors that a thread compares before it takes more

// A number that follows from a few words of a tensor: nearly every change of all values changes it.
inline uint64_t sample_of(const void* data, int64_t bytes) {
    const int64_t words = bytes / 4;
    uint64_t found = 14695981039346656037u;
    for (int64_t k = 1; words && k <= SAMPLES; ++k) {
        uint32_t word;
        std::memcpy(&word, (const char*)data + (words - 1) * k / SAMPLES * 4, sizeof word);
        found = (found ^ word) * 1099511628211u;
    }
    return found;
}

inline void sample(const WatchedTensors& watched) {
    for (int64_t i = 0; i < watched.tensors; ++i) watched.samples[i] = sample_of(watched.data[i], watched.bytes[i]);
}

inline bool are_same(const WatchedObjects& watched) {
    for (int64_t i = 0; i < watched.typed; ++i) {
        void* type;
        std::memcpy(&type, (const char*)watched.typed_at[i] + watched.type_offset, sizeof type);
        if (type != watched.types[i]) return false;
    }
    for (int64_t i = 0; i < watched.entries; ++i) {
        if (watched.item(watched.dictionaries[i], watched.names[i]) != watched.values[i]) return false;
    }
    for (int64_t i = 0; i < watched.counted; ++i) {
        if (watched.count(watched.counted_at[i]) != watched.counts[i]) return false;
    }
    return true;
}

inline bool is_same(const WatchedTensors& watched, int64_t i) {
    void* data = nullptr;
    return watched.version(watched.handles + i) == watched.versions[i] && !watched.data_at(watched.handles + i, &data) &&
           data == watched.data[i] && sample_of(data, watched.bytes[i]) == watched.samples[i];
}

struct Comparison {
    const WatchedObjects* objects;
    const WatchedTensors& tensors;
    std::atomic<int>& same;
};

inline void compare_objects(const void* pointer) {
    const Comparison& comparison = *static_cast<const Comparison*>(pointer);
    if (comparison.objects && !are_same(*comparison.objects)) comparison.same &= ~SAME_OBJECTS;
}

inline void compare_some_tensors(const void* pointer, int64_t item, void*) {
    const Comparison& comparison = *static_cast<const Comparison*>(pointer);
    const WatchedTensors& tensors = comparison.tensors;
    const int64_t end = (item + 1) * AT_ONCE < tensors.tensors ? (item + 1) * AT_ONCE : tensors.tensors;
    for (int64_t i = item * AT_ONCE; i < end; ++i) {
        if (!is_same(tensors, i)) comparison.same &= ~SAME_TENSORS;
    }
}

// All of it has left the caches since the last pass, so each look at an object waits for memory. Other threads compare the
// tensors while the calling thread, the only one that may read Python's objects, compares those.
inline int compare(const WatchedObjects* objects, const WatchedTensors& tensors, int threads) {
    std::atomic<int> same{SAME_OBJECTS | SAME_TENSORS};
    const Comparison comparison{objects, tensors, same};
    const int64_t items = (tensors.tensors + AT_ONCE - 1) / AT_ONCE;
    for_each(items, threads, 0, compare_some_tensors, &comparison, objects ? compare_objects : nullptr);
    return same;
}

}  // namespace rmeeto
