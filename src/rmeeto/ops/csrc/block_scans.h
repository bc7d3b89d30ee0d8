// The scans of a block from both ends. Δ is never stored: a tile of it is projected where it is walked along.
#pragma once

#include "block_inputs.h"
#include "interface.h"
#include "product.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

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
        return job.packed.walkers + direction * job.packed.lane_groups + panel * TILE_VECTORS;
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
            const int64_t channel = walkers[v].lanes.channel;
            const int count = walkers[v].lanes.count;
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
    const Vec* const rate = walker.lanes.rate;
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
            const bool tame = is_tame(walker.lanes, Vec{}, scratch.longest[v]);
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
                const LaneGroup& lanes = walk.walkers()[v].lanes;
                const Vec y = *walk.y(v, token), open = silu(load(gate + lanes.channel, lanes.count));
                store(out + lanes.channel, (float)job.shape().scale * y * open, lanes.count);
                if (walked) store(walked + lanes.channel, y, lanes.count);
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
    const int vectors = (int)smaller(TILE_VECTORS, job.packed.lane_groups - panel * TILE_VECTORS);
    const int begin = (int)(part * vectors / job.parts), end = (int)((part + 1) * vectors / job.parts);
    for (int direction = 0; direction < 2 && begin < end; direction++)
        walk_panel(PanelWalk<T>{job, scratch, item / (job.parts * panels), panel, begin, end, direction});
}

}  // namespace rmeeto::RMEETO_ISA
