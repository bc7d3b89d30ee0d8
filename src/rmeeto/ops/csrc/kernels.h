// What each instruction set provides. kernels.cpp is compiled once for each of them.
#pragma once

#include <cstddef>

#include "interface.h"

namespace rmeeto {

// Frozen blocks. What is packed can be read by the kernels that packed it alone.
struct BlockKernels {
    void* (*pack)(const BlockWeights&);  // null if memory ran out
    // Gives the tokens of a call the places in `workspace` that they need to be worked on, B and C first, dt behind
    // them; returns how many bytes that are. `cache`: what a thread keeps near. No workspace: only to count.
    size_t (*assign)(const void* packed, BlockTokens&, int64_t cache, int threads, void* workspace);
    bool (*run)(const void* packed, const BlockTokens&, int threads);
    void (*release)(void* packed);
};

// Embedding and classifier: the weight of a linear layer, likewise.
struct LinearKernels {
    void* (*pack)(const void* weight, int64_t columns, int64_t depth);  // null if memory ran out
    bool (*embed)(const void* packed, const Embedding&, int threads);
    int (*classify)(const void* packed, const Classification&, int threads);  // an Outcome
    void (*release)(void* packed);
};

// What was packed, and the kernels that can read it.
template <class Packing>
struct Frozen {
    const Packing& kernels;
    void* packed;
};
using FrozenBlock = Frozen<BlockKernels>;
using FrozenLinear = Frozen<LinearKernels>;

// Each returns false if memory ran out. Walks are of equal shapes and storage, and done one after the other.
struct Kernels {
    const char* name;
    bool (*selective_scan)(const Scan* walks, int count, int threads);
    bool (*selective_scan_backward)(const Scan&, int threads);
    bool (*causal_conv)(const Conv&, int threads);
    bool (*causal_conv_backward)(const Conv&, int threads);
    bool (*add_norm)(const Norm&, int threads);
    bool (*add_norm_backward)(const Norm&, int threads);
    bool (*find_nearest)(const Nearest&, int threads);
    int (*merge_rows)(const Merge&, int threads);  // an Outcome
    int (*merge_rows_backward)(const Merge&, int threads);
    int (*lay_out)(const Layout&, int threads);
    int (*closest_pairs)(const Pairs&, int threads);
    int (*neighbour_pairs)(const Pairs&, int threads);
    bool (*mamba_block)(const BlockWeights&, const BlockTokens&, int threads);  // float32, for training
    bool (*mamba_block_backward)(const BlockWeights&, const BlockGradients&, int threads);
    const BlockKernels* blocks;  // by storage
    const LinearKernels* linears;
};

}  // namespace rmeeto
