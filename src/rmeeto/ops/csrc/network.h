// A whole frozen model in one call, from images to logits: the kernels of its parts, one after the other.
//
// A block writes its tokens in place; a reduction moves them to the other of two buffers.
#pragma once

#include <chrono>

#include "kernels.h"
#include "parallel.h"
#include "arena.h"
#include "merging.h"

namespace rmeeto {

// Tokens between two blocks.
struct TokenBuffer {
    void* x;
    float *stream, *size;  // null size: all are 1, before the first merge
    int64_t* protected_at;
};

struct NetworkWorkspace {
    TokenBuffer buffers[2];
    int64_t *kept, *source, *place, *target;
    char* block;

    size_t assign(void* base, const Network& network, size_t block_bytes) {
        Arena arena(base);
        const int64_t batch = network.embedding.batch, rows = batch * network.embedding.tokens;
        block = arena.take<char>((int64_t)block_bytes);
        for (TokenBuffer& buffer : buffers) {
            buffer.x = arena.take<float>(rows * network.dim);
            buffer.stream = arena.take<float>(rows * network.dim);
            buffer.size = arena.take<float>(rows);
            buffer.protected_at = arena.take<int64_t>(batch * network.protected_count);
        }
        kept = arena.take<int64_t>(rows), source = arena.take<int64_t>(rows);
        place = arena.take<int64_t>(rows), target = arena.take<int64_t>(rows);
        return arena.taken();
    }
};

inline const FrozenBlock& block_of(const Network& network, int64_t number) {
    return *static_cast<const FrozenBlock*>(network.blocks[number]);
}

// Workspace bytes of the block that needs most.
inline size_t block_bytes(const Network& network, int threads) {
    size_t most = 0;
    BlockTokens call{};
    call.batch = network.embedding.batch, call.tokens = network.embedding.tokens;
    for (int64_t i = 0; i < network.depth; i++) {
        call.tokens -= network.removed[i];
        const FrozenBlock& block = block_of(network, i);
        const size_t bytes = block.kernels.assign(block.packed, call, network.cache, threads, nullptr);
        most = bytes > most ? bytes : most;
    }
    return most;
}

inline Merging merging_of(const Network& network, const NetworkWorkspace& workspace, int64_t tokens, int64_t removed,
                          const TokenBuffer& from, const TokenBuffer& to) {
    Merging merging{};
    merging.batch = network.embedding.batch, merging.tokens = tokens, merging.removed = removed;
    merging.protected_count = network.protected_count, merging.width = merging.channels = network.dim;
    merging.features_storage = merging.storage = network.storage;
    merging.pairing = network.pairing, merging.guard = network.guard;
    merging.distance = network.distance, merging.nth = network.nth, merging.reach = network.reach;
    merging.features = merging.x = from.x, merging.residual = from.stream;
    merging.size = from.size, merging.protected_at = from.protected_at;
    merging.x_left = to.x, merging.residual_left = to.stream;
    merging.size_left = to.size, merging.protected_left_at = to.protected_at;
    merging.kept = workspace.kept, merging.source = workspace.source;
    merging.place = workspace.place, merging.target = workspace.target;
    return merging;
}

// Run one reduction and add its time to `seconds`.
inline int timed(const Kernels& kernels, const Merging& merging, int threads, double* seconds) {
    const auto begin = std::chrono::steady_clock::now();
    const int outcome = merge_closest(kernels, merging, threads);
    if (seconds) *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return outcome;
}

// Write where a map's rows have come to after one more reduction; null map: nothing to write.
inline void follow(const Merging& merging, int64_t rows, int64_t* source_map) {
    if (!source_map) return;
    for (int64_t image = 0; image < merging.batch; image++)
        for (int64_t i = image * rows; i < (image + 1) * rows; i++)
            source_map[i] = merging.place[image * merging.tokens + source_map[i]];
}

inline int run_network(const Kernels& kernels, const Network& network, int threads) {
    const int64_t batch = network.embedding.batch, count = network.protected_count;
    NetworkWorkspace workspace{};
    const size_t most = block_bytes(network, threads);
    const Buffer memory(workspace.assign(nullptr, network, most));
    if (!memory.data()) return OUT_OF_MEMORY;
    workspace.assign(memory.data(), network, most);

    const FrozenLinear& embedder = *static_cast<const FrozenLinear*>(network.embedder);
    Embedding embedding = network.embedding;
    // Not in the buffer that blocks write to: they may give bfloat16, and this is float32.
    embedding.out = static_cast<float*>(workspace.buffers[1].x);
    if (!embedder.kernels.embed(embedder.packed, embedding, threads)) return OUT_OF_MEMORY;

    TokenBuffer now = workspace.buffers[0];
    now.size = nullptr;
    for (int64_t i = 0; i < batch * count; i++) now.protected_at[i] = network.protected_at[i % count];
    int64_t tokens = embedding.tokens;
    for (int64_t i = 0; network.source_map && i < batch * tokens; i++) network.source_map[i] = i % tokens;
    int other = 1;
    for (int64_t i = 0; i < network.depth; i++) {
        if (const int64_t removed = network.removed[i]) {
            const TokenBuffer& left = workspace.buffers[other];
            const Merging merging = merging_of(network, workspace, tokens, removed, now, left);
            const int outcome = timed(kernels, merging, threads, network.reduction_seconds);
            if (outcome != DONE) return outcome;
            follow(merging, embedding.tokens, network.source_map);
            now = left, tokens -= removed, other = 1 - other;
        }
        BlockTokens call{};
        call.batch = batch, call.tokens = tokens;
        call.x = i ? now.x : embedding.out, call.x_storage = i ? network.storage : FLOAT32;
        call.residual = i ? now.stream : nullptr;
        call.out = now.x, call.stream = now.stream;
        const FrozenBlock& block = block_of(network, i);
        block.kernels.assign(block.packed, call, network.cache, threads, workspace.block);
        if (!block.kernels.run(block.packed, call, threads)) return OUT_OF_MEMORY;
    }

    const FrozenLinear& classifier = *static_cast<const FrozenLinear*>(network.classifier);
    Classification classification = network.classification;
    classification.batch = batch, classification.tokens = tokens, classification.x_storage = network.storage;
    classification.x = now.x, classification.residual = now.stream;
    classification.token_at = {now.protected_at, count, 1};
    return classifier.kernels.classify(classifier.packed, classification, threads);
}

}  // namespace rmeeto
