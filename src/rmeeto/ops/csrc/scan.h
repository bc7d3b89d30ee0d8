// The selective scan, forward; see selective_scan in rmeeto/ops/scan.py for the equations.
//
// A *lane group* is one vector of channels. Its 16 states stay in registers along the tokens; B and C of a token are the
// same for all channels and enter as broadcast scalars. An item of work is one image and a few neighbouring lane groups,
// walked tile by tile (a few dozen tokens, so that everything about a tile is in the nearest cache). The recurrence sees
// neither storage type nor direction nor optional operands: around it, a tile is brought into walk order and float32,
// and taken back.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int STATES = 16;
constexpr int MOST_LANE_GROUPS = 16;  // in an item of work

constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;

// B and C of one token; states beyond the model's own are zero and stay without effect.
struct Row {
    float B[STATES], C[STATES];
};

struct LaneGroup {
    int64_t channel;  // the first one
    int count;        // of channels: LANES, or less at the end
    Vec rate[STATES];  // A * log2(e), so that the decay is one exp2
    Vec fastest, slowest;  // the least and the greatest rate of each channel
};

template <class T>
INLINE T* at(const Tokens& x, int64_t image, int64_t token, int64_t channel) {
    return static_cast<T*>(x.data) + image * x.batch_stride + token * x.token_stride + channel;
}

// The token that is step number `step` of the walk.
INLINE int64_t token_at(const Scan& scan, int64_t step) { return scan.reverse ? scan.tokens - 1 - step : step; }

// Asks for the next lane group's channels of a token while this one's are worked on: neighbouring tokens lie kilobytes
// apart, which no processor foresees.
template <class T, class... Each>
INLINE void prefetch_next(int64_t image, int64_t token, int64_t channel, const Each&... each) {
    ((each.data ? __builtin_prefetch(at<const T>(each, image, token, channel + LANES)) : void()), ...);
}

INLINE int64_t count_lane_groups(int64_t channels) { return divide_up(channels, LANES); }

// How many of an image's lane groups an item takes if there are to be about so many items.
INLINE int64_t lane_groups_for(int64_t items, int64_t images, int64_t channels) {
    const int64_t wanted = count_lane_groups(channels) * images / items;
    return wanted < 1 ? 1 : smaller(wanted, MOST_LANE_GROUPS);
}

INLINE void read_lane_group(const Scan& scan, int64_t index, LaneGroup& lanes) {
    lanes.channel = index * LANES;
    lanes.count = (int)smaller(LANES, scan.channels - lanes.channel);
    for (int n = 0; n < STATES; n++) {
        lanes.rate[n] = Vec{};
        if (n < scan.states)
            for (int i = 0; i < lanes.count; i++)
                lanes.rate[n][i] = scan.A[(lanes.channel + i) * scan.states + n] * LOG2E;
    }
    lanes.fastest = lanes.slowest = lanes.rate[0];
    for (int n = 1; n < STATES; n++) {
        lanes.fastest = lanes.rate[n] < lanes.fastest ? lanes.rate[n] : lanes.fastest;
        lanes.slowest = lanes.rate[n] > lanes.slowest ? lanes.rate[n] : lanes.slowest;
    }
}

template <class T>
INLINE void read_rows(const Scan& scan, int64_t image, int64_t start, int count, Row* rows) {
    for (int i = 0; i < count; i++) {
        const int64_t token = token_at(scan, start + i);
        for (int n = 0; n < STATES; n += LANES) {
            const int present = (int)smaller(LANES, scan.states - n);
            store(rows[i].B + n, present > 0 ? load(at<const T>(scan.B, image, token, n), present) : Vec{}, LANES);
            store(rows[i].C + n, present > 0 ? load(at<const T>(scan.C, image, token, n), present) : Vec{}, LANES);
        }
    }
}

// Whether all decays of these steps have exponents in [LOWEST, 0], as they have unless something is extreme: then
// they need no clamping.
INLINE bool is_tame(const LaneGroup& lanes, Vec shortest, Vec longest) {
    return all((shortest >= 0.0f) & (lanes.slowest <= 0.0f) & (longest * lanes.fastest >= LOWEST));
}

template <bool TAME>
INLINE Vec decay_of(Vec step, Vec rate) {
    const Vec exponent = step * rate;
    if (TAME) return exp2(exponent);
    const Vec decay = exp2(at_most(at_least(exponent, splat(LOWEST)), splat(HIGHEST)));
    return exponent < LOWEST ? Vec{} : decay;  // a gradient multiplies it with steps that may be longer than 2^126
}

// ---- forward

constexpr int TILE = 64;

struct ForwardScratch {
    LaneGroup lane_groups[MOST_LANE_GROUPS];
    Vec states[MOST_LANE_GROUPS][STATES];
    Row rows[TILE];
    Vec step[TILE], drive[TILE], y[TILE];
    Vec sums[];  // (lanes, token): of the walks before the last, in float32 for every storage
};

struct ForwardJob {
    const Scan* walks;
    int count;
    int64_t items_per_image, lane_groups_per_item;
};

// The recurrence over one tile; y holds what the states' contribution is added to.
template <bool TAME>
static void walk(int tokens, const Vec* step, const Vec* drive, const Row* rows, const Vec* rate, Vec* state, Vec* y) {
    Vec h[STATES];
    for (int n = 0; n < STATES; n++) h[n] = state[n];
    for (int t = 0; t < tokens; t++) {
        const Vec step_t = step[t], drive_t = drive[t];
        Vec even = y[t], odd{};  // two sums, for half the latency
        UNROLL for (int n = 0; n < STATES; n++) {
            h[n] = decay_of<TAME>(step_t, rate[n]) * h[n] + drive_t * rows[t].B[n];
            (n % 2 ? odd : even) += h[n] * rows[t].C[n];
        }
        y[t] = even + odd;
    }
    for (int n = 0; n < STATES; n++) state[n] = h[n];
}

template <class T>
static void forward_tile(const Scan& scan, int64_t image, int64_t start, int tokens, const LaneGroup& lanes, Vec* state,
                         const Vec* before, Vec* after, ForwardScratch& scratch) {
    const int64_t c = lanes.channel;
    const Vec bias = scan.delta_bias ? load(scan.delta_bias + c, lanes.count) : Vec{};
    const Vec skip = scan.skip ? load(scan.skip + c, lanes.count) : Vec{};
    Vec shortest = splat(HIGHEST), longest{};
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(scan, start + i);
        const Vec u = load(at<const T>(scan.u, image, token, c), lanes.count);
        Vec step = load(at<const T>(scan.delta, image, token, c), lanes.count) + bias;
        if (scan.delta_softplus) step = softplus(step);
        scratch.step[i] = step;
        scratch.drive[i] = step * u;
        scratch.y[i] = before ? before[token] + skip * u : skip * u;
        shortest = step < shortest ? step : shortest;
        longest = step > longest ? step : longest;
    }
    const auto recurrence = is_tame(lanes, shortest, longest) ? walk<true> : walk<false>;
    recurrence(tokens, scratch.step, scratch.drive, scratch.rows, lanes.rate, state, scratch.y);
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(scan, start + i);
        if (after) {
            after[token] = scratch.y[i];
        } else {
            Vec out = scratch.y[i];
            if (scan.gate.data) out *= silu(load(at<const T>(scan.gate, image, token, c), lanes.count));
            store(at<T>(scan.out, image, token, c), out, lanes.count);
        }
        prefetch_next<T>(image, token, c, scan.u, scan.delta, scan.gate, scan.out);
    }
}

template <class T>
static void forward_item(const void* pointer, int64_t item, void* memory) {
    const ForwardJob& job = *static_cast<const ForwardJob*>(pointer);
    ForwardScratch& scratch = *static_cast<ForwardScratch*>(memory);
    const int64_t image = item / job.items_per_image, first = item % job.items_per_image * job.lane_groups_per_item;
    const int lane_groups = (int)smaller(job.lane_groups_per_item, count_lane_groups(job.walks->channels) - first);
    for (int walk = 0; walk < job.count; walk++) {
        const Scan& scan = job.walks[walk];
        const bool is_last = walk + 1 == job.count;
        for (int k = 0; k < lane_groups; k++) {
            read_lane_group(scan, first + k, scratch.lane_groups[k]);
            for (int n = 0; n < STATES; n++) scratch.states[k][n] = Vec{};
        }
        for (int64_t start = 0; start < scan.tokens; start += TILE) {
            const int tokens = (int)smaller(TILE, scan.tokens - start);
            read_rows<T>(scan, image, start, tokens, scratch.rows);
            for (int k = 0; k < lane_groups; k++) {
                Vec* const sums = scratch.sums + k * scan.tokens;
                forward_tile<T>(scan, image, start, tokens, scratch.lane_groups[k], scratch.states[k],
                                walk ? sums : nullptr, is_last ? nullptr : sums, scratch);
            }
        }
    }
}

static bool selective_scan(const Scan* walks, int count, int threads) {
    const Scan& scan = *walks;
    // Items small enough that all threads finish together, large enough that reading B and C does not show.
    const int64_t per_item = lane_groups_for(4 * threads, scan.batch, scan.channels);
    const int64_t items_per_image = divide_up(count_lane_groups(scan.channels), per_item);
    const ForwardJob job{walks, count, items_per_image, per_item};
    const Body body = scan.storage == BFLOAT16 ? forward_item<bfloat16> : forward_item<float>;
    const size_t sums_bytes = count > 1 ? sizeof(Vec) * per_item * scan.tokens : 0;
    return for_each(scan.batch * items_per_image, threads, sizeof(ForwardScratch) + sums_bytes, body, &job);
}

}  // namespace rmeeto::RMEETO_ISA
