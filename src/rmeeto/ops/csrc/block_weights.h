// The weights of a block, packed as its kernels read them, with whatever else follows from them.
#pragma once

#include <new>

#include "arena.h"
#include "conv.h"
#include "interface.h"
#include "parallel.h"
#include "product.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

// B and C of a token in full rows of STATES, then what its steps are projected from.
constexpr int64_t B_AND_C = 2 * STATES;

// A vector of channels of one direction.
struct Taps {
    Vec weight[MAX_WIDTH], bias;
};

struct Walker {
    LaneGroup lanes;
    Vec skip, delta_bias;
};

// Arrays of both directions hold the forward one's half first.
template <class T>
struct PackedBlock {
    BlockWeights shape;      // its pointers are not looked at any more
    int64_t lane_groups, panels;  // vectors of channels, and panels of them
    T *in_proj, *out_proj, *x_proj, *dt_proj;
    Walker* walkers;
    Taps* taps;
    float* norm_weight;
    T* zeros;  // inner
    Buffer memory;

    // Null memory if there is none.
    PackedBlock(const BlockWeights& weights, Pages pages)
        : shape(weights), lane_groups(count_lane_groups(weights.inner)), panels(count_panels(weights.inner)),
          memory(assign(nullptr), pages) {
        assign(memory.data());
    }
    int64_t mixed() const { return B_AND_C + shape.rank; }
    T* x_proj_of(int direction) const { return x_proj + direction * packed_size<T>(mixed(), shape.inner); }
    T* dt_proj_of(int direction) const { return dt_proj + direction * packed_size<T>(shape.inner, shape.rank); }

private:
    // Gives every array its place from `base` on; returns the bytes that they need.
    size_t assign(void* base) {
        Arena arena(base);
        in_proj = arena.take<T>(packed_size<T>(2 * shape.inner, shape.dim));
        out_proj = arena.take<T>(packed_size<T>(shape.dim, shape.inner));
        x_proj = arena.take<T>(2 * packed_size<T>(mixed(), shape.inner));
        dt_proj = arena.take<T>(2 * packed_size<T>(shape.inner, shape.rank));
        walkers = arena.take<Walker>(2 * lane_groups);
        taps = arena.take<Taps>(2 * lane_groups);
        norm_weight = arena.take<float>(shape.dim);
        zeros = arena.take<T>(shape.inner);
        return arena.taken();
    }
};

// ---- packing

// x_proj gives the low-rank steps, B and C; here B and C come first, each filled up with zeros.
template <class T>
static bool pack_x_proj(const PackedBlock<T>& packed, const T* weight, T* to) {
    const BlockWeights& shape = packed.shape;
    const int64_t inner = shape.inner, rows = packed.mixed();
    const Buffer workspace(sizeof(T) * rows * inner);
    T* const sorted = static_cast<T*>(workspace.data());
    if (!sorted) return false;
    for (int64_t i = 0; i < rows * inner; i++) sorted[i] = T{};
    const auto move = [&](int64_t from, int64_t at, int64_t count) {
        __builtin_memcpy(sorted + at * inner, weight + from * inner, sizeof(T) * count * inner);
    };
    move(shape.rank, 0, shape.states);
    move(shape.rank + shape.states, STATES, shape.states);
    move(0, B_AND_C, shape.rank);
    pack_weight(sorted, rows, inner, to);
    return true;
}

INLINE void pack_channels(const BlockWeights& weights, const BlockDirection& side, int64_t index, Taps& taps,
                          Walker& walker) {
    const int64_t channel = index * LANES;
    const int count = (int)smaller(LANES, weights.inner - channel);
    Scan scan{};
    scan.channels = weights.inner, scan.states = weights.states, scan.A = side.A;
    read_lane_group(scan, index, walker.lanes);
    walker.skip = load(side.skip + channel, count);
    walker.delta_bias = load(side.delta_bias + channel, count);
    taps = Taps{};
    taps.bias = load(side.conv_bias + channel, count);
    for (int64_t j = 0; j < weights.width; j++)  // the newest token's first, as read_taps does
        for (int i = 0; i < count; i++)
            taps.weight[j][i] = side.conv_weight[(channel + i) * weights.width + weights.width - 1 - j];
}

// Null if memory ran out.
template <class T>
static PackedBlock<T>* pack_block(const BlockWeights& weights, Pages pages) {
    PackedBlock<T>* const packed = new (std::nothrow) PackedBlock<T>(weights, pages);
    if (!packed) return nullptr;
    const int64_t inner = weights.inner;
    bool is_complete = packed->memory.data() != nullptr;
    for (int direction = 0; direction < 2 && is_complete; direction++) {
        const BlockDirection& side = weights.directions[direction];
        is_complete = pack_x_proj(*packed, static_cast<const T*>(side.x_proj), packed->x_proj_of(direction));
        pack_weight(static_cast<const T*>(side.dt_proj), inner, weights.rank, packed->dt_proj_of(direction));
        for (int64_t i = 0; i < packed->lane_groups; i++) {
            const int64_t at = direction * packed->lane_groups + i;
            pack_channels(weights, side, i, packed->taps[at], packed->walkers[at]);
        }
    }
    if (!is_complete) {
        delete packed;
        return nullptr;
    }
    pack_weight(static_cast<const T*>(weights.in_proj), 2 * inner, weights.dim, packed->in_proj);
    pack_weight(static_cast<const T*>(weights.out_proj), weights.dim, inner, packed->out_proj);
    __builtin_memcpy(packed->norm_weight, weights.norm_weight, sizeof(float) * weights.dim);
    for (int64_t i = 0; i < inner; i++) packed->zeros[i] = T{};
    return packed;
}

}  // namespace rmeeto::RMEETO_ISA
