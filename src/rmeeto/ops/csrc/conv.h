// The short causal convolution and its gradients; see causal_conv in rmeeto/ops/conv.py for the equations.
//
// Items of work, lane groups and tiles are as in scan.h. The last few inputs of a lane group stay in registers along the
// tokens, so that every input is read once; the time goes into memory.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int MAX_WIDTH = 4;
constexpr int CONV_TILE = 32;

INLINE int64_t token_at(const Conv& conv, int64_t step) { return conv.reverse ? conv.tokens - 1 - step : step; }

// The weights of one lane group, the newest token's first, so that tap j meets the input j steps back in the walk.
template <int WIDTH>
INLINE void read_taps(const Conv& conv, int64_t channel, int count, Vec* taps) {
    for (int j = 0; j < WIDTH; j++)
        for (int i = 0; i < count; i++) taps[j][i] = conv.weight[(channel + i) * WIDTH + WIDTH - 1 - j];
}

struct ConvLaneGroup {
    int64_t channel;
    int count;
    Vec taps[MAX_WIDTH], bias;
    Vec past[MAX_WIDTH - 1];    // inputs, the latest first
    Vec slopes[MAX_WIDTH - 1];  // backward: gradients of the sums before SiLU, the latest first
};

struct ConvSums {
    Vec taps[MAX_WIDTH], bias;
};

struct ConvJob {
    const Conv& conv;
    int64_t items_per_image, lane_groups_per_item;
    ConvSums* sums;  // backward: (image, lane group)
};

INLINE ConvJob divide_conv(const Conv& conv, int threads) {
    const int64_t per_item = lane_groups_for(4 * threads, conv.batch, conv.channels);
    return {conv, divide_up(count_lane_groups(conv.channels), per_item), per_item, nullptr};
}

template <int WIDTH>
INLINE int begin_item(const ConvJob& job, int64_t first, ConvLaneGroup* all) {
    const Conv& conv = job.conv;
    const int count = (int)smaller(job.lane_groups_per_item, count_lane_groups(conv.channels) - first);
    for (int k = 0; k < count; k++) {
        ConvLaneGroup& lanes = all[k] = ConvLaneGroup{};
        lanes.channel = (first + k) * LANES;
        lanes.count = (int)smaller(LANES, conv.channels - lanes.channel);
        read_taps<WIDTH>(conv, lanes.channel, lanes.count, lanes.taps);
        if (conv.bias) lanes.bias = load(conv.bias + lanes.channel, lanes.count);
    }
    return count;
}

// The sum before SiLU.
template <int WIDTH>
INLINE Vec convolve(const Vec* taps, Vec x, const Vec* past, Vec sum) {
    sum += taps[0] * x;
    for (int j = 1; j < WIDTH; j++) sum += taps[j] * past[j - 1];
    return sum;
}

// Make x the latest of SIZE vectors.
template <int SIZE>
INLINE void push(Vec* latest, Vec x) {
    for (int j = SIZE - 1; j > 0; j--) latest[j] = latest[j - 1];
    latest[0] = x;
}

template <class T, int WIDTH>
static void conv_tile(const Conv& conv, int64_t image, int64_t start, int tokens, ConvLaneGroup& lanes) {
    Vec taps[WIDTH], past[WIDTH - 1];
    for (int j = 0; j < WIDTH; j++) taps[j] = lanes.taps[j];
    for (int j = 0; j < WIDTH - 1; j++) past[j] = lanes.past[j];
    const Vec bias = lanes.bias;
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(conv, start + i);
        const Vec x = load(at<const T>(conv.x, image, token, lanes.channel), lanes.count);
        const Vec sum = convolve<WIDTH>(taps, x, past, bias);
        push<WIDTH - 1>(past, x);
        store(at<T>(conv.out, image, token, lanes.channel), conv.silu ? silu(sum) : sum, lanes.count);
        prefetch_next<T>(image, token, lanes.channel, conv.x, conv.out);
    }
    for (int j = 0; j < WIDTH - 1; j++) lanes.past[j] = past[j];
}

template <class T, int WIDTH>
static void conv_item(const void* pointer, int64_t item, void* memory) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    ConvLaneGroup* const lane_groups = static_cast<ConvLaneGroup*>(memory);
    const int64_t image = item / job.items_per_image;
    const int count = begin_item<WIDTH>(job, item % job.items_per_image * job.lane_groups_per_item, lane_groups);
    for (int64_t start = 0; start < conv.tokens; start += CONV_TILE)
        for (int k = 0; k < count; k++)
            conv_tile<T, WIDTH>(conv, image, start, (int)smaller(CONV_TILE, conv.tokens - start), lane_groups[k]);
}

// A sum at step i reaches back to the inputs i, i-1, ..., so the gradient of an input is complete WIDTH-1 steps
// after it: dx_m = sum_j taps_j * slope_{m+j}. After the last token, slopes are zero.
template <class T, int WIDTH>
static void conv_backward_tile(const Conv& conv, int64_t image, int64_t start, int tokens, ConvLaneGroup& lanes,
                               ConvSums& sums) {
    Vec taps[WIDTH], past[WIDTH - 1], slopes[WIDTH - 1], dtaps[WIDTH] = {}, dbias{};
    for (int j = 0; j < WIDTH; j++) taps[j] = lanes.taps[j];
    for (int j = 0; j < WIDTH - 1; j++) past[j] = lanes.past[j];
    for (int j = 0; j < WIDTH - 1; j++) slopes[j] = lanes.slopes[j];
    const Vec bias = lanes.bias;
    const auto finish_input = [&](int64_t step, Vec slope) {
        Vec dx = taps[WIDTH - 1] * slope;
        for (int j = 0; j < WIDTH - 1; j++) dx += taps[j] * slopes[WIDTH - 2 - j];
        push<WIDTH - 1>(slopes, slope);
        if (step < WIDTH - 1) return;
        T* const to = at<T>(conv.dx, image, token_at(conv, step - (WIDTH - 1)), lanes.channel);
        store(to, conv.is_added ? load(to, lanes.count) + dx : dx, lanes.count);
    };
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(conv, start + i);
        const Vec x = load(at<const T>(conv.x, image, token, lanes.channel), lanes.count);
        Vec slope = load(at<const T>(conv.grad, image, token, lanes.channel), lanes.count);
        if (conv.silu) {
            Vec of_silu;
            silu(convolve<WIDTH>(taps, x, past, bias), of_silu);
            slope *= of_silu;
        }
        dbias += slope;
        dtaps[0] += slope * x;
        for (int j = 1; j < WIDTH; j++) dtaps[j] += slope * past[j - 1];
        push<WIDTH - 1>(past, x);
        finish_input(start + i, slope);
        prefetch_next<T>(image, token, lanes.channel, conv.x, conv.grad, conv.dx);
    }
    if (start + tokens == conv.tokens)
        for (int j = 0; j < WIDTH - 1; j++) finish_input(conv.tokens + j, Vec{});
    for (int j = 0; j < WIDTH - 1; j++) lanes.past[j] = past[j];
    for (int j = 0; j < WIDTH - 1; j++) lanes.slopes[j] = slopes[j];
    for (int j = 0; j < WIDTH; j++) sums.taps[j] += dtaps[j];
    sums.bias += dbias;
}

template <class T, int WIDTH>
static void conv_backward_item(const void* pointer, int64_t item, void* memory) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    ConvLaneGroup* const lane_groups = static_cast<ConvLaneGroup*>(memory);
    const int64_t image = item / job.items_per_image, first = item % job.items_per_image * job.lane_groups_per_item;
    const int count = begin_item<WIDTH>(job, first, lane_groups);
    ConvSums* const sums = job.sums + image * count_lane_groups(conv.channels) + first;
    for (int k = 0; k < count; k++) sums[k] = ConvSums{};
    for (int64_t start = 0; start < conv.tokens; start += CONV_TILE)
        for (int k = 0; k < count; k++) {
            const int tokens = (int)smaller(CONV_TILE, conv.tokens - start);
            conv_backward_tile<T, WIDTH>(conv, image, start, tokens, lane_groups[k], sums[k]);
        }
}

// One lane group's dweight and dbias: the images' sums in their order, whichever thread made them.
template <int WIDTH>
static void reduce_taps(const void* pointer, int64_t index, void*) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    const int64_t lane_groups = count_lane_groups(conv.channels), channel = index * LANES;
    const int count = (int)smaller(LANES, conv.channels - channel);
    ConvSums total{};
    for (int64_t image = 0; image < conv.batch; image++) {
        const ConvSums& sums = job.sums[image * lane_groups + index];
        for (int j = 0; j < WIDTH; j++) total.taps[j] += sums.taps[j];
        total.bias += sums.bias;
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < WIDTH; j++) conv.dweight[(channel + i) * WIDTH + WIDTH - 1 - j] = total.taps[j][i];
    if (conv.dbias) store(conv.dbias + channel, total.bias, count);
}

template <int WIDTH>
static bool conv_forward_of(const Conv& conv, int threads) {
    const ConvJob job = divide_conv(conv, threads);
    const Body body = conv.storage == BFLOAT16 ? conv_item<bfloat16, WIDTH> : conv_item<float, WIDTH>;
    return for_each(conv.batch * job.items_per_image, threads, sizeof(ConvLaneGroup[MOST_LANE_GROUPS]), body, &job);
}

template <int WIDTH>
static bool conv_backward_of(const Conv& conv, int threads) {
    const int64_t lane_groups = count_lane_groups(conv.channels);
    const Buffer sums(sizeof(ConvSums) * conv.batch * lane_groups);
    if (!sums.data()) return false;
    ConvJob job = divide_conv(conv, threads);
    job.sums = static_cast<ConvSums*>(sums.data());
    const Body body = conv.storage == BFLOAT16 ? conv_backward_item<bfloat16, WIDTH> : conv_backward_item<float, WIDTH>;
    return for_each(conv.batch * job.items_per_image, threads, sizeof(ConvLaneGroup[MOST_LANE_GROUPS]), body, &job) &&
           for_each(lane_groups, threads, 0, reduce_taps<WIDTH>, &job);
}

// The caller has checked that 2 <= width <= MAX_WIDTH.

static bool causal_conv(const Conv& conv, int threads) {
    if (conv.width == 2) return conv_forward_of<2>(conv, threads);
    if (conv.width == 3) return conv_forward_of<3>(conv, threads);
    return conv_forward_of<4>(conv, threads);
}

static bool causal_conv_backward(const Conv& conv, int threads) {
    if (conv.width == 2) return conv_backward_of<2>(conv, threads);
    if (conv.width == 3) return conv_backward_of<3>(conv, threads);
    return conv_backward_of<4>(conv, threads);
}

}  // namespace rmeeto::RMEETO_ISA
