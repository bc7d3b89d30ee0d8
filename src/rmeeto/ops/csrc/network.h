// A whole frozen model in one call, from images to logits: the kernels of its parts, one after the other.
//
// A block writes its tokens in place; a reduction moves them to the other of two buffers.
#pragma once

#include <chrono>

#include "kernels.h"
#include "parallel.h"
#include "pieces.h"
#include "reduction.h"

namespace rmeeto {

// Tokens between two blocks.
struct Side {
    void* x;
    float *stream, *size;  // null size: all are 1, before the first merge
    int64_t* fixed_at;
};

struct NetworkRoom {
    Side sides[2];
    int64_t *kept, *source, *place, *target;
    char* block;

    size_t lay_out(void* base, const Network& network, size_t block_bytes) {
        Pieces pieces(base);
        const int64_t batch = network.embedding.batch, rows = batch * network.embedding.tokens;
        block = pieces.take<char>((int64_t)block_bytes);
        for (Side& side : sides) {
            side.x = pieces.take<float>(rows * network.dim);
            side.stream = pieces.take<float>(rows * network.dim);
            side.size = pieces.take<float>(rows);
            side.fixed_at = pieces.take<int64_t>(batch * network.fixed);
        }
        kept = pieces.take<int64_t>(rows), source = pieces.take<int64_t>(rows);
        place = pieces.take<int64_t>(rows), target = pieces.take<int64_t>(rows);
        return pieces.taken();
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
        const size_t bytes = block.kernels.lay_out(block.packed, call, network.cache, threads, nullptr);
        most = bytes > most ? bytes : most;
    }
    return most;
}

inline Reduction reduction_of(const Network& network, const NetworkRoom& room, int64_t tokens, int64_t removed,
                              const Side& from, const Side& to) {
    Reduction reduction{};
    reduction.batch = network.embedding.batch, reduction.tokens = tokens, reduction.fixed = network.fixed;
    reduction.removed = removed, reduction.features = reduction.channels = network.dim;
    reduction.features_storage = reduction.storage = network.storage;
    reduction.distance = network.distance, reduction.nth = network.nth, reduction.reach = network.reach;
    reduction.values = reduction.x = from.x, reduction.residual = from.stream;
    reduction.size = from.size, reduction.fixed_at = from.fixed_at;
    reduction.x_left = to.x, reduction.residual_left = to.stream;
    reduction.size_left = to.size, reduction.fixed_left_at = to.fixed_at;
    reduction.kept = room.kept, reduction.source = room.source;
    reduction.place = room.place, reduction.target = room.target;
    return reduction;
}

// Run one reduction and add its time to `seconds`.
inline int timed(const Kernels& kernels, const Reduction& reduction, int threads, double* seconds) {
    const auto begin = std::chrono::steady_clock::now();
    const int outcome = reduce(kernels, reduction, threads);
    if (seconds) *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return outcome;
}

inline int run_network(const Kernels& kernels, const Network& network, int threads) {
    const int64_t batch = network.embedding.batch, fixed = network.fixed;
    NetworkRoom room{};
    const size_t most = block_bytes(network, threads);
    const Buffer memory(room.lay_out(nullptr, network, most));
    if (!memory.data()) return OUT_OF_MEMORY;
    room.lay_out(memory.data(), network, most);

    const FrozenEnd& first = *static_cast<const FrozenEnd*>(network.first);
    Embedding embedding = network.embedding;
    embedding.out = static_cast<float*>(room.sides[1].x);  // float32 even if blocks give bfloat16, so not in their buffer
    if (!first.kernels.embed(first.packed, embedding, threads)) return OUT_OF_MEMORY;

    Side now = room.sides[0];
    now.size = nullptr;
    for (int64_t i = 0; i < batch * fixed; i++) now.fixed_at[i] = network.fixed_at[i % fixed];
    int64_t tokens = embedding.tokens;
    int other = 1;
    for (int64_t i = 0; i < network.depth; i++) {
        if (const int64_t removed = network.removed[i]) {
            const Side& left = room.sides[other];
            const Reduction reduction = reduction_of(network, room, tokens, removed, now, left);
            const int outcome = timed(kernels, reduction, threads, network.reduction_seconds);
            if (outcome != DONE) return outcome;
            now = left, tokens -= removed, other = 1 - other;
        }
        BlockTokens call{};
        call.batch = batch, call.tokens = tokens;
        call.x = i ? now.x : embedding.out, call.x_storage = i ? network.storage : FLOAT32;
        call.residual = i ? now.stream : nullptr;
        call.out = now.x, call.stream = now.stream;
        const FrozenBlock& block = block_of(network, i);
        block.kernels.lay_out(block.packed, call, network.cache, threads, room.block);
        if (!block.kernels.run(block.packed, call, threads)) return OUT_OF_MEMORY;
    }

    const FrozenEnd& last = *static_cast<const FrozenEnd*>(network.last);
    Classification classification = network.classification;
    classification.batch = batch, classification.tokens = tokens, classification.x_storage = network.storage;
    classification.x = now.x, classification.residual = now.stream, classification.token_at = {now.fixed_at, fixed, 1};
    return last.kernels.classify(last.packed, classification, threads);
}

}  // namespace rmeeto
