// What each instruction set provides. kernels.cpp is compiled once for each of them.
#pragma once

#include <cstddef>

#include "interface.h"

namespace rmeeto {

// Frozen blocks. What is packed can be read by the kernels that packed it alone.
struct BlockKernels {
    void* (*pack)(const BlockWeights&);  // null if memory ran out
    // Gives the tokens of a call the places in `room` that they need to be worked on, B and C first, dt behind them;
    // returns how many bytes that are. `cache`: what a thread keeps near. No room: only to count.
    size_t (*lay_out)(const void* packed, BlockTokens&, int64_t cache, int threads, void* room);
    bool (*run)(const void* packed, const BlockTokens&, int threads);
    void (*release)(void* packed);
};

struct FrozenBlock {
    const BlockKernels& kernels;
    void* packed;
};

// What comes before the blocks and behind them, likewise.
struct EndKernels {
    void* (*pack)(const void* weight, int64_t columns, int64_t depth);  // null if memory ran out
    bool (*embed)(const void* packed, const Embedding&, int threads);
    int (*classify)(const void* packed, const Classification&, int threads);  // an Outcome
    void (*release)(void* packed);
};

struct FrozenEnd {
    const EndKernels& kernels;
    void* packed;
};

// Each returns false if memory ran out. Walks are of equal shapes and storage, and done one after the other.
struct Kernels {
    const char* name;
    bool (*scan_forward)(const Scan* walks, int count, int threads);
    bool (*scan_backward)(const Scan&, int threads);
    bool (*conv_forward)(const Conv&, int threads);
    bool (*conv_backward)(const Conv&, int threads);
    bool (*norm_forward)(const Norm&, int threads);
    bool (*norm_backward)(const Norm&, int threads);
    bool (*nearest)(const Nearest&, int threads);
    int (*merge)(const Merge&, int threads);  // an Outcome
    int (*merge_backward)(const Merge&, int threads);
    int (*lay_out)(const Layout&, int threads);
    int (*pairs)(const Pairs&, int threads);
    bool (*block_forward)(const BlockWeights&, const BlockTokens&, int threads);  // float32, for training
    bool (*block_backward)(const BlockWeights&, const BlockGradients&, int threads);
    const BlockKernels* blocks;  // by storage
    const EndKernels* ends;
};

}  // namespace rmeeto
