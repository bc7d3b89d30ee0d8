// What stands between two reductions, in one call: join and normalise, project in, convolve from both ends and project
// to B, C and the steps, scan from both ends, project out; see rmeeto/ops/block.py. Whatever follows from the weights
// has been computed and packed: once for inference, at every call for training.
//
// Images enough for all threads are shared out among them; of fewer, every phase shares out its work. Either reads what
// the phase before left in the caches. Δ is never stored: a tile of it is projected where it is walked along.
#pragma once

#include <new>

#include "conv.h"
#include "interface.h"
#include "kernels.h"
#include "norm.h"
#include "parallel.h"
#include "pieces.h"
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
    Block block;
    Vec skip, delta_bias;
};

// Arrays of both directions hold the forward one's half first.
template <class T>
struct PackedBlock {
    BlockWeights shape;      // its pointers are not looked at any more
    int64_t blocks, panels;  // vectors of channels, and panels of them
    T *in_proj, *out_proj, *x_proj, *dt_proj;
    Walker* walkers;
    Taps* taps;
    float* norm_weight;
    T* zeros;  // inner
    Buffer memory;

    // Null memory if there is none.
    PackedBlock(const BlockWeights& weights, Pages pages)
        : shape(weights), blocks(count_blocks(weights.inner)), panels(count_panels(weights.inner)),
          memory(lay_out(nullptr), pages) {
        lay_out(memory.data());
    }
    int64_t mixed() const { return B_AND_C + shape.rank; }
    T* x_proj_of(int direction) const { return x_proj + direction * packed_size<T>(mixed(), shape.inner); }
    T* dt_proj_of(int direction) const { return dt_proj + direction * packed_size<T>(shape.inner, shape.rank); }

private:
    // Gives every array its place from `base` on; returns the bytes that they need.
    size_t lay_out(void* base) {
        Pieces pieces(base);
        in_proj = pieces.take<T>(packed_size<T>(2 * shape.inner, shape.dim));
        out_proj = pieces.take<T>(packed_size<T>(shape.dim, shape.inner));
        x_proj = pieces.take<T>(2 * packed_size<T>(mixed(), shape.inner));
        dt_proj = pieces.take<T>(2 * packed_size<T>(shape.inner, shape.rank));
        walkers = pieces.take<Walker>(2 * blocks);
        taps = pieces.take<Taps>(2 * blocks);
        norm_weight = pieces.take<float>(shape.dim);
        zeros = pieces.take<T>(shape.inner);
        return pieces.taken();
    }
};

// ---- packing

// x_proj gives the low-rank steps, B and C; here B and C come first, each filled up with zeros.
template <class T>
static bool pack_x_proj(const PackedBlock<T>& packed, const T* weight, T* to) {
    const BlockWeights& shape = packed.shape;
    const int64_t inner = shape.inner, rows = packed.mixed();
    const Buffer room(sizeof(T) * rows * inner);
    T* const sorted = static_cast<T*>(room.data());
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
    read_block(scan, index, walker.block);
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
        for (int64_t i = 0; i < packed->blocks; i++) {
            const int64_t at = direction * packed->blocks + i;
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

// ---- convolution from both ends, and its product: B, C and the low-rank steps

// Images [first, first + count) of the batch, with the room from that of image `slot` on.
template <class T>
struct BlockJob {
    const PackedBlock<T>& packed;
    const BlockTokens& tokens;
    int64_t first, count, slot;
    int64_t chunks = 0;  // of an image's tokens, for the convolution
    int64_t parts = 1;   // of a panel, for the scans

    const BlockWeights& shape() const { return packed.shape; }
    int64_t length() const { return tokens.tokens; }
    // `width` channels of a token; `image` counts from the first.
    T* at(void* data, int64_t width, int64_t image, int64_t token) const {
        return static_cast<T*>(data) + (image * length() + token) * width;
    }
    T* projected(int64_t image, int64_t token) const {
        return at(tokens.projected, 2 * shape().inner, slot + image, token);
    }
    T* u(int direction, int64_t image, int64_t token) const {
        return at(tokens.u, shape().inner, direction * tokens.group + slot + image, token);
    }
    T* dt(int direction, int64_t image, int64_t token) const {
        return at(tokens.dt, shape().rank, direction * tokens.batch + first + image, token);
    }
    float* walked(int64_t image, int64_t token) const {
        return tokens.walked ? tokens.walked + ((first + image) * length() + token) * shape().inner : nullptr;
    }
    float* b_and_c(int direction, int64_t image, int64_t token) const {
        return tokens.b_and_c + ((direction * tokens.batch + first + image) * length() + token) * B_AND_C;
    }
};

// Both walks see the same window of inputs, from opposite sides: what lies before the token, or behind it.
template <class T, int WIDTH>
INLINE void convolve_token(const BlockJob<T>& job, int64_t image, int64_t token, int64_t first, int64_t last) {
    constexpr int REACH = WIDTH - 1;
    const PackedBlock<T>& packed = job.packed;
    const T* window[2 * REACH + 1];
    for (int j = 0; j <= 2 * REACH; j++) {
        const int64_t at = token + j - REACH;
        const bool is_there = at >= 0 && at < job.length();
        window[j] = is_there ? job.projected(image, at) : packed.zeros;
    }
    T* const ahead = job.u(0, image, token);
    T* const back = job.u(1, image, token);
    for (int64_t i = first; i < last; i++) {
        const int64_t channel = i * LANES;
        const int count = (int)smaller(LANES, job.shape().inner - channel);
        const Taps &forward = packed.taps[i], &backward = packed.taps[packed.blocks + i];
        Vec sum = forward.bias, other = backward.bias;
        UNROLL for (int j = 0; j < WIDTH; j++) {
            sum += forward.weight[j] * load(window[REACH - j] + channel, count);
            other += backward.weight[j] * load(window[REACH + j] + channel, count);
        }
        store(ahead + channel, silu(sum), count);
        store(back + channel, silu(other), count);
    }
}

// A few tokens, while what the convolution made of them is in the nearest caches.
template <class T>
INLINE void project_steps(const BlockJob<T>& job, int direction, int64_t image, int64_t token, int rows) {
    const PackedBlock<T>& packed = job.packed;
    const int64_t inner = job.shape().inner, rank = job.shape().rank, size = panel_size<T>(inner);
    const int64_t panels = count_panels(packed.mixed());
    const T* panel = packed.x_proj_of(direction);
    for (int64_t p = 0; p < panels; p++, panel += size) {
        Vec sums[TILE_ROWS][TILE_VECTORS];
        multiply_columns(packed.mixed() - p * PANEL, rows, job.u(direction, image, token), inner, panel, inner, panel, sums);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < TILE_VECTORS; j++) {
                const int64_t column = p * PANEL + j * LANES, low = column - B_AND_C;
                if (low < 0)
                    store(job.b_and_c(direction, image, token + i) + column, sums[i][j], LANES);
                else if (low < rank)
                    store(job.dt(direction, image, token + i) + low, sums[i][j], (int)smaller(LANES, rank - low));
            }
    }
}

template <class T, int WIDTH>
static void convolve_item(const void* pointer, int64_t item, void*) {
    const BlockJob<T>& job = *static_cast<const BlockJob<T>*>(pointer);
    const int64_t image = item / job.chunks, begin = item % job.chunks * TILE_ROWS;
    const int rows = (int)smaller(TILE_ROWS, job.length() - begin);
    for (int64_t first = 0; first < job.packed.blocks; first += TILE_VECTORS)
        for (int64_t token = begin; token < begin + rows; token++)
            convolve_token<T, WIDTH>(job, image, token, first, smaller(first + TILE_VECTORS, job.packed.blocks));
    for (int direction = 0; direction < 2; direction++) project_steps(job, direction, image, begin, rows);
}

// ---- scans from both ends

constexpr int BLOCK_TILE = 32;  // tokens; with a panel of channels, what a walk reads fills half of the nearest cache

struct WalkScratch {
    Vec states[TILE_VECTORS][STATES];
    Vec step[TILE_VECTORS][BLOCK_TILE], x[TILE_VECTORS][BLOCK_TILE];
    Vec longest[TILE_VECTORS];
    Vec y[];  // (vector, token): of both walks together
};

// One panel of channels of one image, or the vectors [begin, end) of it, walked in one direction.
template <class T>
struct PanelWalk {
    const BlockJob<T>& job;
    WalkScratch& scratch;
    int64_t image, panel;
    int begin, end, direction;

    int64_t sign() const { return direction ? -1 : 1; }
    const Walker* walkers() const {
        return job.packed.walkers + direction * job.packed.blocks + panel * TILE_VECTORS;
    }
    const T* weight() const { return job.packed.dt_proj_of(direction) + panel * panel_size<T>(job.shape().rank); }
    Vec* y(int v, int64_t token) const { return scratch.y + v * job.length() + token; }
};

// Asks for this panel's part of a token's row that is read a little later: neighbouring tokens lie kilobytes apart,
// which no processor foresees.
template <int CACHE, class T>
INLINE void prefetch_panel(const T* row, int64_t panel) {
    for (int64_t c = 0; c < PANEL; c += 64 / (int64_t)sizeof(T)) __builtin_prefetch(row + panel * PANEL + c, 0, CACHE);
}

// Steps of a tile projected and its inputs read, in the order of the walk.
template <class T>
INLINE void prepare_tile(const PanelWalk<T>& walk, int64_t start, int tokens) {
    const BlockJob<T>& job = walk.job;
    WalkScratch& scratch = walk.scratch;
    const Walker* const walkers = walk.walkers();
    const int64_t rank = job.shape().rank, sign = walk.sign();
    for (int v = 0; v < TILE_VECTORS; v++) scratch.longest[v] = Vec{};
    for (int done = 0; done < tokens; done += TILE_ROWS) {
        const int rows = (int)smaller(TILE_ROWS, tokens - done);
        const int64_t token = start + sign * done;
        for (int i = 0; i < rows; i++) {
            const int64_t at = token + sign * i, next = at + sign * TILE_ROWS;
            if (next >= 0 && next < job.length())
                prefetch_panel<3>(job.u(walk.direction, walk.image, next), walk.panel);
            if (!walk.direction) continue;
            prefetch_panel<2>(job.u(0, walk.image, at), walk.panel);
            prefetch_panel<2>(job.projected(walk.image, at) + job.shape().inner, walk.panel);
        }
        Vec delta[TILE_ROWS][TILE_VECTORS];
        multiply_rows(rows, job.dt(walk.direction, walk.image, token), sign * rank, walk.weight(), rank,
                      walk.weight(), delta);
        for (int v = walk.begin; v < walk.end; v++) {
            const int64_t channel = walkers[v].block.channel;
            const int count = walkers[v].block.count;
            const Vec bias = walkers[v].delta_bias;
            Vec longest = scratch.longest[v];
            for (int i = 0; i < rows; i++) {
                const Vec step = softplus(delta[i][v] + bias);
                longest = step > longest ? step : longest;
                scratch.step[v][done + i] = step;
                scratch.x[v][done + i] = load(job.u(walk.direction, walk.image, token + sign * i) + channel, count);
            }
            scratch.longest[v] = longest;
        }
    }
}

// The recurrence of `walk` in scan.h over a tile, from inputs instead of what they drive; the first of both walks
// begins the sum that the second goes on with. Rows and y lie in the order of time.
template <bool TAME, bool FIRST>
static void walk_tile(int tokens, const Vec* step, const Vec* x, const Row* rows, Vec* y, int64_t sign,
                      const Walker& walker, Vec* state) {
    const Vec* const rate = walker.block.rate;
    const Vec skip = walker.skip;
    Vec h[STATES];
    for (int n = 0; n < STATES; n++) h[n] = state[n];
    for (int t = 0; t < tokens; t++, rows += sign, y += sign) {
        const Vec step_t = step[t], x_t = x[t], drive = step_t * x_t;
        Vec even = FIRST ? skip * x_t : *y + skip * x_t, odd{};  // two sums, for half the latency
        UNROLL for (int n = 0; n < STATES; n++) {
            h[n] = decay_of<TAME>(step_t, rate[n]) * h[n] + drive * rows->B[n];
            (n % 2 ? odd : even) += h[n] * rows->C[n];
        }
        *y = even + odd;
    }
    for (int n = 0; n < STATES; n++) state[n] = h[n];
}

template <class T>
static void walk_panel(const PanelWalk<T>& walk) {
    const BlockJob<T>& job = walk.job;
    WalkScratch& scratch = walk.scratch;
    const int64_t length = job.length();
    for (int v = 0; v < TILE_VECTORS; v++)
        for (int n = 0; n < STATES; n++) scratch.states[v][n] = Vec{};
    for (int64_t done = 0; done < length; done += BLOCK_TILE) {
        const int tokens = (int)smaller(BLOCK_TILE, length - done);
        const int64_t start = walk.direction ? length - 1 - done : done;
        prepare_tile(walk, start, tokens);
        const Row* const rows = reinterpret_cast<const Row*>(job.b_and_c(walk.direction, walk.image, start));
        for (int v = walk.begin; v < walk.end; v++) {
            const Walker& walker = walk.walkers()[v];
            const bool tame = is_tame(walker.block, Vec{}, scratch.longest[v]);
            const auto recurrence = walk.direction ? (tame ? walk_tile<true, false> : walk_tile<false, false>)
                                                   : (tame ? walk_tile<true, true> : walk_tile<false, true>);
            recurrence(tokens, scratch.step[v], scratch.x[v], rows, walk.y(v, start), walk.sign(), walker,
                       scratch.states[v]);
        }
        if (!walk.direction) continue;
        for (int64_t token = start; token > start - tokens; token--) {
            const T* const gate = job.projected(walk.image, token) + job.shape().inner;
            T* const out = job.u(0, walk.image, token);
            float* const walked = job.walked(walk.image, token);
            for (int v = walk.begin; v < walk.end; v++) {
                const Block& block = walk.walkers()[v].block;
                const Vec y = *walk.y(v, token), open = silu(load(gate + block.channel, block.count));
                store(out + block.channel, (float)job.shape().scale * y * open, block.count);
                if (walked) store(walked + block.channel, y, block.count);
            }
        }
    }
}

// Both walks over one panel. What they give stands where the first has read its inputs.
template <class T>
static void walk_item(const void* pointer, int64_t item, void* memory) {
    const BlockJob<T>& job = *static_cast<const BlockJob<T>*>(pointer);
    WalkScratch& scratch = *static_cast<WalkScratch*>(memory);
    const int64_t panels = job.packed.panels, part = item % job.parts, panel = item / job.parts % panels;
    const int vectors = (int)smaller(TILE_VECTORS, job.packed.blocks - panel * TILE_VECTORS);
    const int begin = (int)(part * vectors / job.parts), end = (int)((part + 1) * vectors / job.parts);
    for (int direction = 0; direction < 2 && begin < end; direction++)
        walk_panel(PanelWalk<T>{job, scratch, item / (job.parts * panels), panel, begin, end, direction});
}

// ---- the whole

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
    return norm_forward(norm, threads) && multiply(in, threads) &&
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

template <class T>
static void* pack_block_of(const BlockWeights& weights) {
    return pack_block<T>(weights, Pages::LARGE);
}

// As many images go through the block together as leave their work in the caches.
template <class T>
static size_t lay_out_block_of(const void* packed, BlockTokens& tokens, int64_t cache, int threads, void* room) {
    const BlockWeights& shape = static_cast<const PackedBlock<T>*>(packed)->shape;
    const int64_t work = 4 * shape.inner * tokens.tokens * (int64_t)sizeof(T);
    tokens.group = smaller(tokens.batch, threads * (cache > work ? cache / work : 1));
    const int64_t together = tokens.group * tokens.tokens, all = tokens.batch * tokens.tokens;
    Pieces pieces(room);
    tokens.b_and_c = pieces.take<float>(2 * all * B_AND_C);
    tokens.dt = pieces.take<T>(2 * all * shape.rank);
    tokens.normed = pieces.take<T>(together * shape.dim);
    tokens.projected = pieces.take<T>(together * 2 * shape.inner);
    tokens.u = pieces.take<T>(2 * together * shape.inner);
    return pieces.taken();
}

template <class T>
static bool run_block_of(const void* packed, const BlockTokens& tokens, int threads) {
    return run_block(*static_cast<const PackedBlock<T>*>(packed), tokens, threads);
}

template <class T>
static void release_block_of(void* packed) {
    delete static_cast<PackedBlock<T>*>(packed);
}

constexpr BlockKernels BLOCK_KERNELS[] = {
    {pack_block_of<float>, lay_out_block_of<float>, run_block_of<float>, release_block_of<float>},
    {pack_block_of<bfloat16>, lay_out_block_of<bfloat16>, run_block_of<bfloat16>, release_block_of<bfloat16>}};

// ---- for training

static bool block_forward(const BlockWeights& weights, const BlockTokens& tokens, int threads) {
    PackedBlock<float>* const packed = pack_block<float>(weights, Pages::ORDINARY);
    const bool is_done = packed && run_block(*packed, tokens, threads);
    delete packed;
    return is_done;
}

}  // namespace rmeeto::RMEETO_ISA
