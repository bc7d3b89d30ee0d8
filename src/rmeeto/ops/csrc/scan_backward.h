// The selective scan's gradients.
//
// With g the gradient of out, dy = g * silu(gate), and gh_t that of h_t through everything that comes after:
//
//     gh_t   = dy_t * C_t + decay_{t+1} * gh_{t+1}            decay_t = exp(d_t * A)
//     dC_t   = sum_e dy_t * h_t                               dB_t = sum_e gh_t * d_t * u_t
//     s_t    = sum_n gh_t * B_t                               w_t  = gh_t * decay_t * h_{t-1}
//     du_t   = d_t * s_t + dy_t * skip                        dA   = sum_t w_t * d_t
//     dd_t   = u_t * s_t + sum_n w_t * A                      dgate_t = g_t * y_t * silu'(gate_t)
//
// The walk back needs all states and decays of a chunk of tokens, which are computed anew and kept in scratch memory
// the size of the second-level cache. Longer sequences leave the state before each chunk behind in a first walk.
//
// Sums over channels (dB, dC) are kept per item of work and sums over images (dA, dskip, ddelta_bias) per image,
// then added in a fixed order: the result does not depend on the number of threads.
#pragma once

#include "scan.h"

namespace rmeeto::RMEETO_ISA {

constexpr int CHUNK = 256;

struct ChannelSums {
    Vec A[STATES], skip, delta_bias;
};

struct BackwardScratch {
    Vec decay[CHUNK][STATES], state[CHUNK + 1][STATES];
    Vec step[CHUNK], drive[CHUNK], u[CHUNK], y[CHUNK], dy[CHUNK];
    Vec softplus_slope[CHUNK], gate_slope[CHUNK];  // the latter with g in it
    Row rows[CHUNK], drows[CHUNK];
    LaneGroup lane_groups[MOST_LANE_GROUPS];
    ChannelSums sums[MOST_LANE_GROUPS];
    Vec carry[MOST_LANE_GROUPS][STATES];  // decay_{t+1} * gh_{t+1} where the chunk before left off
    Vec before[][MOST_LANE_GROUPS][STATES];  // the states before each chunk
};

struct BackwardJob {
    const Scan& scan;
    int64_t items_per_image, lane_groups_per_item, chunks;
    Row* drows;         // (item, token), in time order
    ChannelSums* sums;  // (image, lane group)
};

// ---- forward again

template <class T>
static bool prepare_chunk(const Scan& scan, int64_t image, int64_t start, int tokens, const LaneGroup& lanes,
                          bool with_gradient, BackwardScratch& scratch) {
    const int64_t c = lanes.channel;
    const Vec bias = scan.delta_bias ? load(scan.delta_bias + c, lanes.count) : Vec{};
    const Vec skip = scan.skip ? load(scan.skip + c, lanes.count) : Vec{};
    Vec shortest = splat(HIGHEST), longest{};
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(scan, start + i);
        const Vec u = load(at<const T>(scan.u, image, token, c), lanes.count);
        Vec step = load(at<const T>(scan.delta, image, token, c), lanes.count) + bias, slope = splat(1.0f);
        if (scan.delta_softplus) step = softplus(step, slope);
        scratch.step[i] = step;
        scratch.drive[i] = step * u;
        shortest = step < shortest ? step : shortest;
        longest = step > longest ? step : longest;
        if (!with_gradient) continue;
        scratch.softplus_slope[i] = slope;
        scratch.u[i] = u;
        scratch.y[i] = skip * u;
        Vec dy = load(at<const T>(scan.grad, image, token, c), lanes.count);
        if (scan.gate.data) {
            const Vec open = silu(load(at<const T>(scan.gate, image, token, c), lanes.count), slope);
            scratch.gate_slope[i] = dy * slope;
            dy *= open;
        }
        scratch.dy[i] = dy;
    }
    return is_tame(lanes, shortest, longest);
}

// The states alone, for the first walk.
template <bool TAME>
static void advance(int tokens, const LaneGroup& lanes, const BackwardScratch& scratch, Vec* state) {
    Vec h[STATES];
    for (int n = 0; n < STATES; n++) h[n] = state[n];
    for (int t = 0; t < tokens; t++) {
        const Vec step = scratch.step[t], drive = scratch.drive[t];
        UNROLL for (int n = 0; n < STATES; n++)
            h[n] = decay_of<TAME>(step, lanes.rate[n]) * h[n] + drive * scratch.rows[t].B[n];
    }
    for (int n = 0; n < STATES; n++) state[n] = h[n];
}

// The states and decays of a chunk into scratch memory, and y, which only the gate's gradient needs.
template <bool TAME, bool GATED>
static void remember(int tokens, const LaneGroup& lanes, BackwardScratch& scratch) {
    Vec h[STATES];
    for (int n = 0; n < STATES; n++) h[n] = scratch.state[0][n];
    for (int t = 0; t < tokens; t++) {
        const Vec step = scratch.step[t], drive = scratch.drive[t];
        Vec y = GATED ? scratch.y[t] : Vec{};
        UNROLL for (int n = 0; n < STATES; n++) {
            const Vec decay = decay_of<TAME>(step, lanes.rate[n]);
            h[n] = decay * h[n] + drive * scratch.rows[t].B[n];
            if (GATED) y += h[n] * scratch.rows[t].C[n];
            scratch.decay[t][n] = decay;
            scratch.state[t + 1][n] = h[n];
        }
        if (GATED) scratch.y[t] = y;
    }
}

// ---- and back

// One token on the way back: called for every state n, it returns the summands of dB_n and dC_n.
struct Step {
    Vec step, drive, dy;
    const Row& row;
    const Vec *rate, *decay, *state, *state_before;
    Vec *carry, *dA;
    Vec s, w_rate;

    struct Pair {
        Vec B, C;
    };

    INLINE_MEMBER Pair at_state(int n) {
        const Vec gh = carry[n] + dy * row.C[n];
        const Vec passed = decay[n] * gh, w = passed * state_before[n];
        carry[n] = passed;
        s += gh * row.B[n];
        dA[n] += w * step;
        w_rate += w * rate[n];
        return {gh * drive, dy * state[n]};
    }

    // The sums over channels of COUNT neighbouring states: a tree, walked depth first to keep few vectors alive.
    template <int FIRST, int COUNT>
    INLINE_MEMBER Pair sum() {
        if constexpr (COUNT == 1) {
            return at_state(FIRST);
        } else {
            const Pair a = sum<FIRST, COUNT / 2>(), b = sum<FIRST + COUNT / 2, COUNT / 2>();
            return {merge<COUNT / 2>(a.B, b.B, Lanes{}), merge<COUNT / 2>(a.C, b.C, Lanes{})};
        }
    }

    template <int FIRST>
    INLINE_MEMBER void add_to(Row& drow) {
        const Pair pair = sum<FIRST, LANES>();
        store(drow.B + FIRST, load(drow.B + FIRST, LANES) + pair.B, LANES);
        store(drow.C + FIRST, load(drow.C + FIRST, LANES) + pair.C, LANES);
        if constexpr (FIRST + LANES < STATES) add_to<FIRST + LANES>(drow);
    }
};

template <class T>
static void walk_back(const Scan& scan, int64_t image, int64_t start, int tokens, const LaneGroup& lanes,
                      Vec* carry_out, ChannelSums& sums, BackwardScratch& scratch) {
    const int64_t c = lanes.channel;
    const Vec skip = scan.skip ? load(scan.skip + c, lanes.count) : Vec{};
    Vec carry[STATES], dA[STATES] = {}, dskip{}, dbias{};
    for (int n = 0; n < STATES; n++) carry[n] = carry_out[n];
    for (int i = tokens - 1; i >= 0; i--) {
        Step step{scratch.step[i], scratch.drive[i], scratch.dy[i],        scratch.rows[i], lanes.rate,
                  scratch.decay[i], scratch.state[i + 1], scratch.state[i], carry, dA, Vec{}, Vec{}};
        step.add_to<0>(scratch.drows[i]);

        const int64_t token = token_at(scan, start + i);
        const Vec u = scratch.u[i], ddelta = (u * step.s + step.w_rate * LN2) * scratch.softplus_slope[i];
        store(at<T>(scan.du, image, token, c), step.step * step.s + step.dy * skip, lanes.count);
        store(at<T>(scan.ddelta, image, token, c), ddelta, lanes.count);
        if (scan.gate.data)
            store(at<T>(scan.dgate, image, token, c), scratch.gate_slope[i] * scratch.y[i], lanes.count);
        prefetch_next<T>(image, token, c, scan.u, scan.delta, scan.gate, scan.grad);
        prefetch_next<T>(image, token, c, scan.du, scan.ddelta, scan.dgate);
        dskip += step.dy * u;
        dbias += ddelta;
    }
    for (int n = 0; n < STATES; n++) {
        carry_out[n] = carry[n];
        sums.A[n] += dA[n];
    }
    sums.skip += dskip;
    sums.delta_bias += dbias;
}

template <class T>
static void backward_item(const void* pointer, int64_t item, void* memory) {
    const BackwardJob& job = *static_cast<const BackwardJob*>(pointer);
    const Scan& scan = job.scan;
    BackwardScratch& scratch = *static_cast<BackwardScratch*>(memory);
    const int64_t image = item / job.items_per_image, first = item % job.items_per_image * job.lane_groups_per_item;
    const int64_t in_image = count_lane_groups(scan.channels);
    const int lane_groups = (int)smaller(job.lane_groups_per_item, in_image - first);
    const auto tokens_of = [&](int64_t chunk) { return (int)smaller(CHUNK, scan.tokens - chunk * CHUNK); };

    for (int k = 0; k < lane_groups; k++) {
        read_lane_group(scan, first + k, scratch.lane_groups[k]);
        scratch.sums[k] = ChannelSums{};
        for (int n = 0; n < STATES; n++) scratch.carry[k][n] = scratch.before[0][k][n] = Vec{};
    }
    for (int64_t chunk = 0; chunk + 1 < job.chunks; chunk++) {
        read_rows<T>(scan, image, chunk * CHUNK, CHUNK, scratch.rows);
        for (int k = 0; k < lane_groups; k++) {
            const LaneGroup& lanes = scratch.lane_groups[k];
            const bool tame = prepare_chunk<T>(scan, image, chunk * CHUNK, CHUNK, lanes, false, scratch);
            Vec* const after = scratch.before[chunk + 1][k];
            for (int n = 0; n < STATES; n++) after[n] = scratch.before[chunk][k][n];
            (tame ? advance<true> : advance<false>)(CHUNK, lanes, scratch, after);
        }
    }
    for (int64_t chunk = job.chunks - 1; chunk >= 0; chunk--) {
        const int64_t start = chunk * CHUNK;
        const int tokens = tokens_of(chunk);
        read_rows<T>(scan, image, start, tokens, scratch.rows);
        for (int i = 0; i < tokens; i++) scratch.drows[i] = Row{};
        for (int k = 0; k < lane_groups; k++) {
            const LaneGroup& lanes = scratch.lane_groups[k];
            const bool tame = prepare_chunk<T>(scan, image, start, tokens, lanes, true, scratch);
            for (int n = 0; n < STATES; n++) scratch.state[0][n] = scratch.before[chunk][k][n];
            if (scan.gate.data)
                (tame ? remember<true, true> : remember<false, true>)(tokens, lanes, scratch);
            else
                (tame ? remember<true, false> : remember<false, false>)(tokens, lanes, scratch);
            walk_back<T>(scan, image, start, tokens, lanes, scratch.carry[k], scratch.sums[k], scratch);
        }
        Row* const drows = job.drows + item * scan.tokens;
        for (int i = 0; i < tokens; i++) drows[token_at(scan, start + i)] = scratch.drows[i];
    }
    for (int k = 0; k < lane_groups; k++) job.sums[image * in_image + first + k] = scratch.sums[k];
}

// ---- sums over items and images, in their order

// One image's dB and dC.
template <class T>
static void reduce_rows(const void* pointer, int64_t image, void*) {
    const BackwardJob& job = *static_cast<const BackwardJob*>(pointer);
    const Scan& scan = job.scan;
    const Row* const drows = job.drows + image * job.items_per_image * scan.tokens;
    for (int64_t token = 0; token < scan.tokens; token++)
        for (int n = 0; n < scan.states; n += LANES) {
            Vec B{}, C{};
            for (int64_t item = 0; item < job.items_per_image; item++) {
                const Row& row = drows[item * scan.tokens + token];
                B += load(row.B + n, LANES);
                C += load(row.C + n, LANES);
            }
            const int present = (int)smaller(LANES, scan.states - n);
            store(at<T>(scan.dB, image, token, n), B, present);
            store(at<T>(scan.dC, image, token, n), C, present);
        }
}

// One lane group's dA, dskip and ddelta_bias.
static void reduce_channels(const void* pointer, int64_t index, void*) {
    const BackwardJob& job = *static_cast<const BackwardJob*>(pointer);
    const Scan& scan = job.scan;
    const int64_t lane_groups = count_lane_groups(scan.channels), channel = index * LANES;
    const int count = (int)smaller(LANES, scan.channels - channel);
    ChannelSums total{};
    for (int64_t image = 0; image < scan.batch; image++) {
        const ChannelSums& sums = job.sums[image * lane_groups + index];
        for (int n = 0; n < STATES; n++) total.A[n] += sums.A[n];
        total.skip += sums.skip;
        total.delta_bias += sums.delta_bias;
    }
    for (int i = 0; i < count; i++)
        for (int n = 0; n < scan.states; n++) scan.dA[(channel + i) * scan.states + n] = total.A[n][i];
    if (scan.dskip) store(scan.dskip + channel, total.skip, count);
    if (scan.ddelta_bias) store(scan.ddelta_bias + channel, total.delta_bias, count);
}

// `images` are those of the whole batch, which this call may be a part of.
static bool scan_backward_of(const Scan& scan, int64_t images, int threads) {
    // The items decide in which order channels are added up, so they follow from the shape alone: enough of them to
    // occupy the cores of a large machine, few enough that their rows of dB and dC stay small.
    constexpr int64_t ITEMS = 32;
    const int64_t lane_groups = count_lane_groups(scan.channels);
    const int64_t per_item = lane_groups_for(ITEMS, images, scan.channels);
    const int64_t items_per_image = divide_up(lane_groups, per_item), chunks = divide_up(scan.tokens, CHUNK);
    const Buffer drows(sizeof(Row) * scan.batch * items_per_image * scan.tokens);
    const Buffer sums(sizeof(ChannelSums) * scan.batch * lane_groups);
    if (!drows.data() || !sums.data()) return false;
    const BackwardJob job{scan, items_per_image, per_item, chunks, static_cast<Row*>(drows.data()),
                          static_cast<ChannelSums*>(sums.data())};
    const bool wide = scan.storage != BFLOAT16;
    const size_t scratch = sizeof(BackwardScratch) + sizeof(Vec[MOST_LANE_GROUPS][STATES]) * chunks;
    const Body walk = wide ? backward_item<float> : backward_item<bfloat16>;
    return for_each(scan.batch * items_per_image, threads, scratch, walk, &job) &&
           for_each(scan.batch, threads, 0, wide ? reduce_rows<float> : reduce_rows<bfloat16>, &job) &&
           for_each(lane_groups, threads, 0, reduce_channels, &job);
}

static bool selective_scan_backward(const Scan& scan, int threads) {
    return scan_backward_of(scan, scan.batch, threads);
}

}  // namespace rmeeto::RMEETO_ISA
