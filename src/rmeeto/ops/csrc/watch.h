// Whether what a frozen model was made from is still there: entries of Python's dictionaries, and tensors of PyTorch.
// Neither's headers are needed: objects are addresses here, and both hand over functions that read them.
#pragma once

#include <cstring>

#include "interface.h"

namespace rmeeto {

constexpr int64_t SAMPLES = 2;  // words of each tensor

// A number that follows from a few words of each tensor: nearly every change of all values changes it.
inline uint64_t sample_of(const Watch& watch) {
    uint64_t found = 14695981039346656037u;
    for (int64_t i = 0; i < watch.tensors; ++i) {
        const int64_t words = watch.bytes[i] / 4;
        if (!words) continue;
        for (int64_t k = 1; k <= SAMPLES; ++k) {
            uint32_t word;
            std::memcpy(&word, (const char*)watch.data[i] + (words - 1) * k / SAMPLES * 4, sizeof word);
            found = (found ^ word) * 1099511628211u;
        }
    }
    return found;
}

inline Watched compare(const Watch& watch) {
    for (int64_t i = 0; i < watch.entries; ++i) {
        if (watch.item(watch.dictionaries[i], watch.names[i]) != watch.values[i]) return OTHER_ENTRIES;
    }
    for (int64_t i = 0; i < watch.counted; ++i) {
        if (watch.count(watch.counted_at[i]) != watch.counts[i]) return OTHER_ENTRIES;
    }
    for (int64_t i = 0; i < watch.tensors; ++i) {
        void* data = nullptr;
        if (watch.version(watch.handles + i) != watch.versions[i]) return OTHER_TENSORS;
        if (watch.data_at(watch.handles + i, &data) || data != watch.data[i]) return OTHER_TENSORS;
    }
    return sample_of(watch) == watch.sample ? ALL_THE_SAME : OTHER_TENSORS;
}

}  // namespace rmeeto
