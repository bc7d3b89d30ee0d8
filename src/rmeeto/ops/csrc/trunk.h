// All frozen blocks of a network and the reductions between them in one call: the kernels of each, one after the other.
//
// A block leaves its tokens where it found them; a reduction moves them to the other of two sides.
#pragma once

#include "kernels.h"
#include "parallel.h"
#include "pieces.h"
#include "reduction.h"

namespace rmeeto {

// Tokens between two blocks; as long as none has been merged, no sizes.
struct Between {
    void* x;
    float *stream, *size;
    int64_t* fixed_at;
};

struct TrunkRoom {
    Between sides[2];
    int64_t *kept, *source, *place, *target;
    char* block;

    size_t lay_out(void* base, const Trunk& trunk, size_t block_bytes) {
        Pieces pieces(base);
        const int64_t rows = trunk.batch * trunk.tokens;
        block = pieces.take<char>((int64_t)block_bytes);
        for (Between& side : sides) {
            side.x = pieces.take<float>(rows * trunk.dim);
            side.stream = pieces.take<float>(rows * trunk.dim);
            side.size = pieces.take<float>(rows);
            side.fixed_at = pieces.take<int64_t>(trunk.batch * trunk.fixed);
        }
        kept = pieces.take<int64_t>(rows), source = pieces.take<int64_t>(rows);
        place = pieces.take<int64_t>(rows), target = pieces.take<int64_t>(rows);
        return pieces.taken();
    }
};

inline const FrozenBlock& block_of(const Trunk& trunk, int64_t number) {
    return *static_cast<const FrozenBlock*>(trunk.blocks[number]);
}

// Of the block that needs most.
inline size_t block_bytes(const Trunk& trunk, int threads) {
    size_t most = 0;
    BlockTokens call{};
    call.batch = trunk.batch, call.tokens = trunk.tokens;
    for (int64_t i = 0; i < trunk.depth; i++) {
        call.tokens -= trunk.removed[i];
        const FrozenBlock& block = block_of(trunk, i);
        const size_t bytes = block.kernels.lay_out(block.packed, call, trunk.cache, threads, nullptr);
        most = bytes > most ? bytes : most;
    }
    return most;
}

inline Reduction reduction_of(const Trunk& trunk, const TrunkRoom& room, int64_t tokens, int64_t removed,
                              const Between& from, int64_t storage, const Between& to) {
    Reduction reduction{};
    reduction.batch = trunk.batch, reduction.tokens = tokens, reduction.fixed = trunk.fixed;
    reduction.removed = removed, reduction.features = reduction.channels = trunk.dim;
    reduction.features_storage = reduction.storage = storage;
    reduction.distance = trunk.distance, reduction.nth = trunk.nth, reduction.reach = trunk.reach;
    reduction.values = reduction.x = from.x, reduction.residual = from.stream;
    reduction.size = from.size, reduction.fixed_at = from.fixed_at;
    reduction.x_left = to.x, reduction.residual_left = to.stream;
    reduction.size_left = to.size, reduction.fixed_left_at = to.fixed_at;
    reduction.kept = room.kept, reduction.source = room.source;
    reduction.place = room.place, reduction.target = room.target;
    return reduction;
}

inline int run_trunk(const Kernels& kernels, const Trunk& trunk, int threads) {
    TrunkRoom room{};
    const size_t most = block_bytes(trunk, threads);
    const Buffer memory(room.lay_out(nullptr, trunk, most));
    if (!memory.data()) return OUT_OF_MEMORY;
    room.lay_out(memory.data(), trunk, most);

    Between now{trunk.x, nullptr, nullptr, trunk.fixed_at};
    int64_t tokens = trunk.tokens, storage = trunk.x_storage;
    int other = 0;  // the side that nobody needs
    for (int64_t i = 0; i < trunk.depth; i++) {
        if (const int64_t removed = trunk.removed[i]) {
            const Between& left = room.sides[other];
            const Reduction reduction = reduction_of(trunk, room, tokens, removed, now, storage, left);
            if (const int outcome = reduce(kernels, reduction, threads); outcome != DONE) return outcome;
            now = left, tokens -= removed, other = 1 - other;
        }
        BlockTokens call{};
        call.batch = trunk.batch, call.tokens = tokens, call.x_storage = storage;
        call.x = now.x, call.residual = now.stream;
        if (!now.stream)  // the first block: what it reads stays as it is
            now.x = room.sides[other].x, now.stream = room.sides[other].stream, other = 1 - other;
        if (i == trunk.depth - 1) now.x = trunk.out, now.stream = trunk.stream;
        call.out = now.x, call.stream = now.stream, storage = trunk.storage;
        const FrozenBlock& block = block_of(trunk, i);
        block.kernels.lay_out(block.packed, call, trunk.cache, threads, room.block);
        if (!block.kernels.run(block.packed, call, threads)) return OUT_OF_MEMORY;
    }
    __builtin_memcpy(trunk.fixed_left_at, now.fixed_at, sizeof(int64_t) * trunk.batch * trunk.fixed);
    return DONE;
}

}  // namespace rmeeto
