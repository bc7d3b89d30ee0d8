// What stands between two reductions, in one call: join and normalise, project in, convolve from both ends and project
// to B, C and the steps, scan from both ends, project out; see rmeeto/ops/block.py. Whatever follows from the weights
// has been computed and packed: once for inference, at every call for training.
//
// Images enough for all threads are shared out among them; of fewer, every phase shares out its work. Either reads what
// the phase before left in the caches.
#pragma once

#include "arena.h"
#include "block_inputs.h"
#include "block_scans.h"
#include "block_weights.h"
#include "interface.h"
#include "kernels.h"
#include "norm.h"
#include "parallel.h"
#include "product.h"

namespace rmeeto::RMEETO_ISA {

// Phase by phase.
template <class T>
static bool run_together(BlockJob<T> job, int threads) {
    const PackedBlock<T>& packed = job.packed;
    const BlockTokens& tokens = job.tokens;
    const BlockWeights& shape = packed.shape;
    const int64_t dim = shape.dim, inner = shape.inner, rows = job.count * job.length();
    T* const projected = job.projected(0, 0);
    T* const normed = job.at(tokens.normed, dim, job.slot, 0);
    T* const gated = job.u(0, 0, 0);
    const auto rows_of = [&](auto* data) { return Tokens{data, job.length() * dim, dim}; };
    const auto own = [&](void* data, int64_t storage) {
        const int64_t bytes = storage == BFLOAT16 ? sizeof(bfloat16) : sizeof(float);
        return data ? static_cast<char*>(data) + job.first * job.length() * dim * bytes : nullptr;
    };

    Norm norm{};
    norm.batch = job.count, norm.tokens = job.length(), norm.channels = dim, norm.eps = shape.eps;
    norm.x_storage = tokens.x_storage, norm.out_storage = shape.storage;
    norm.x = rows_of(own(tokens.x, tokens.x_storage)), norm.residual = rows_of(own(tokens.residual, FLOAT32));
    norm.stream = rows_of(own(tokens.stream, FLOAT32)), norm.out = rows_of(normed);
    norm.weight = packed.norm_weight;

    Product<T> in{}, out{};
    in.x = normed, in.x_stride = dim, in.weight = packed.in_proj;
    in.out = projected, in.out_stride = 2 * inner, in.rows = rows, in.depth = dim, in.columns = 2 * inner;
    out.x = gated, out.x_stride = inner, out.weight = packed.out_proj;
    out.out = reinterpret_cast<T*>(own(tokens.out, shape.storage)), out.out_stride = dim;
    out.rows = rows, out.depth = inner, out.columns = dim;

    const Body convolve = shape.width == 2   ? convolve_item<T, 2>
                          : shape.width == 3 ? convolve_item<T, 3>
                                             : convolve_item<T, 4>;
    // Each part of a panel projects all of its steps, so panels are parted only where threads would have to wait.
    const int64_t walks = job.count * packed.panels;
    const bool is_even = walks % threads == 0 || walks >= 3 * threads;
    job.parts = is_even ? 1 : smaller(TILE_VECTORS, divide_up(2 * threads, walks));
    job.chunks = divide_up(job.length(), TILE_ROWS);
    const size_t walk_bytes = sizeof(WalkScratch) + sizeof(Vec) * TILE_VECTORS * job.length();
    return add_norm(norm, threads) && multiply(in, threads) &&
           for_each(job.count * job.chunks, threads, 0, convolve, &job) &&
           for_each(walks * job.parts, threads, walk_bytes, walk_item<T>, &job) && multiply(out, threads);
}

template <class T>
struct Shares {
    const BlockJob<T>& all;
    int64_t count;
};

template <class T>
static bool run_share(const void* pointer, int64_t item) {
    const Shares<T>& shares = *static_cast<const Shares<T>*>(pointer);
    const int64_t before = item * shares.all.count / shares.count, end = (item + 1) * shares.all.count / shares.count;
    BlockJob<T> job = shares.all;
    job.first += before, job.slot = before, job.count = end - before;
    return run_together(job, 1);
}

// Images enough for all threads are shared out, so that no core reads what another has written and none waits.
template <class T>
static bool run_group(const BlockJob<T>& job, int threads) {
    const bool is_even = job.count % threads == 0 || job.count >= 4 * threads;
    if (threads == 1 || job.count < threads || !is_even) return run_together(job, threads);
    const Shares<T> shares{job, threads};
    return for_all(threads, threads, run_share<T>, &shares);
}

template <class T>
static bool run_block(const PackedBlock<T>& packed, const BlockTokens& tokens, int threads) {
    for (int64_t first = 0; first < tokens.batch; first += tokens.group) {
        const int64_t count = smaller(tokens.group, tokens.batch - first);
        if (!run_group(BlockJob<T>{packed, tokens, first, count, 0}, threads)) return false;
    }
    return true;
}

// ---- for inference, by storage

// As many images go through the block together as leave their work in the caches.
template <class T>
static size_t assign_block(const void* packed, BlockTokens& tokens, int64_t cache, int threads, void* workspace) {
    const BlockWeights& shape = static_cast<const PackedBlock<T>*>(packed)->shape;
    const int64_t work = 4 * shape.inner * tokens.tokens * (int64_t)sizeof(T);
    tokens.group = smaller(tokens.batch, threads * (cache > work ? cache / work : 1));
    const int64_t together = tokens.group * tokens.tokens, all = tokens.batch * tokens.tokens;
    Arena arena(workspace);
    tokens.b_and_c = arena.take<float>(2 * all * B_AND_C);
    tokens.dt = arena.take<T>(2 * all * shape.rank);
    tokens.normed = arena.take<T>(together * shape.dim);
    tokens.projected = arena.take<T>(together * 2 * shape.inner);
    tokens.u = arena.take<T>(2 * together * shape.inner);
    return arena.taken();
}

template <class T>
constexpr BlockKernels BLOCK_KERNELS_OF = {
    [](const BlockWeights& weights) -> void* { return pack_block<T>(weights, Pages::LARGE); },
    assign_block<T>,
    [](const void* packed, const BlockTokens& tokens, int threads) {
        return run_block(*static_cast<const PackedBlock<T>*>(packed), tokens, threads);
    },
    [](void* packed) { delete static_cast<PackedBlock<T>*>(packed); },
};
constexpr BlockKernels BLOCK_KERNELS[] = {BLOCK_KERNELS_OF<float>, BLOCK_KERNELS_OF<bfloat16>};

// ---- for training

static bool mamba_block(const BlockWeights& weights, const BlockTokens& tokens, int threads) {
    PackedBlock<float>* const packed = pack_block<float>(weights, Pages::ORDINARY);
    const bool is_done = packed && run_block(*packed, tokens, threads);
    delete packed;
    return is_done;
}

}  // namespace rmeeto::RMEETO_ISA
