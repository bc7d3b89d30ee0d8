// The short causal convolution and its gradients; see causal_conv in rmeeto/ops/conv.py for the equations.
//
// Items of work, blocks and tiles are as in scan.h. The last few inputs of a block stay in registers along the tokens, so
// that every input is read once; the time goes into memory.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int MAX_WIDTH = 4;
constexpr int CONV_TILE = 32;

INLINE int64_t token_at(const Conv& conv, int64_t step) { return conv.reverse ? conv.tokens - 1 - step : step; }

// The weights of one block, the newest token's first, so that tap j meets the input j steps back in the walk.
template <int WIDTH>
INLINE void read_taps(const Conv& conv, int64_t channel, int count, Vec* taps) {
    for (int j = 0; j < WIDTH; j++)
        for (int i = 0; i < count; i++) taps[j][i] = conv.weight[(channel + i) * WIDTH + WIDTH - 1 - j];
}

struct ConvBlock {
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
    int64_t groups, blocks_per_group;
    ConvSums* sums;  // backward: (image, block)
};

INLINE ConvJob divide_conv(const Conv& conv, int threads) {
    const int64_t blocks = count_blocks(conv.channels), wanted = blocks * conv.batch / (4 * threads);
    const int64_t per_group = wanted < 1 ? 1 : smaller(wanted, GROUP);
    return {conv, (blocks + per_group - 1) / per_group, per_group, nullptr};
}

template <int WIDTH>
INLINE int begin_group(const ConvJob& job, int64_t first, ConvBlock* group) {
    const Conv& conv = job.conv;
    const int blocks = (int)smaller(job.blocks_per_group, count_blocks(conv.channels) - first);
    for (int k = 0; k < blocks; k++) {
        ConvBlock& block = group[k] = ConvBlock{};
        block.channel = (first + k) * LANES;
        block.count = (int)smaller(LANES, conv.channels - block.channel);
        read_taps<WIDTH>(conv, block.channel, block.count, block.taps);
        if (conv.bias) block.bias = load(conv.bias + block.channel, block.count);
    }
    return blocks;
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
static void conv_tile(const Conv& conv, int64_t image, int64_t start, int tokens, ConvBlock& block) {
    Vec taps[WIDTH], past[WIDTH - 1];
    for (int j = 0; j < WIDTH; j++) taps[j] = block.taps[j];
    for (int j = 0; j < WIDTH - 1; j++) past[j] = block.past[j];
    const Vec bias = block.bias;
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(conv, start + i);
        const Vec x = load(at<const T>(conv.x, image, token, block.channel), block.count);
        const Vec sum = convolve<WIDTH>(taps, x, past, bias);
        push<WIDTH - 1>(past, x);
        store(at<T>(conv.out, image, token, block.channel), conv.silu ? silu(sum) : sum, block.count);
        prefetch_next<T>(image, token, block.channel, conv.x, conv.out);
    }
    for (int j = 0; j < WIDTH - 1; j++) block.past[j] = past[j];
}

template <class T, int WIDTH>
static void conv_item(const void* pointer, int64_t item, void* memory) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    ConvBlock* const group = static_cast<ConvBlock*>(memory);
    const int64_t image = item / job.groups;
    const int blocks = begin_group<WIDTH>(job, item % job.groups * job.blocks_per_group, group);
    for (int64_t start = 0; start < conv.tokens; start += CONV_TILE)
        for (int k = 0; k < blocks; k++)
            conv_tile<T, WIDTH>(conv, image, start, (int)smaller(CONV_TILE, conv.tokens - start), group[k]);
}

// A sum at step i reaches back to the inputs i, i-1, ..., so the gradient of an input is complete WIDTH-1 steps
// after it: dx_m = sum_j taps_j * slope_{m+j}. After the last token, slopes are zero.
template <class T, int WIDTH>
static void conv_backward_tile(const Conv& conv, int64_t image, int64_t start, int tokens, ConvBlock& block,
                               ConvSums& sums) {
    Vec taps[WIDTH], past[WIDTH - 1], slopes[WIDTH - 1], dtaps[WIDTH] = {}, dbias{};
    for (int j = 0; j < WIDTH; j++) taps[j] = block.taps[j];
    for (int j = 0; j < WIDTH - 1; j++) past[j] = block.past[j];
    for (int j = 0; j < WIDTH - 1; j++) slopes[j] = block.slopes[j];
    const Vec bias = block.bias;
    const auto finish_input = [&](int64_t step, Vec slope) {
        Vec dx = taps[WIDTH - 1] * slope;
        for (int j = 0; j < WIDTH - 1; j++) dx += taps[j] * slopes[WIDTH - 2 - j];
        push<WIDTH - 1>(slopes, slope);
        if (step < WIDTH - 1) return;
        T* const to = at<T>(conv.dx, image, token_at(conv, step - (WIDTH - 1)), block.channel);
        store(to, conv.is_added ? load(to, block.count) + dx : dx, block.count);
    };
    for (int i = 0; i < tokens; i++) {
        const int64_t token = token_at(conv, start + i);
        const Vec x = load(at<const T>(conv.x, image, token, block.channel), block.count);
        Vec slope = load(at<const T>(conv.grad, image, token, block.channel), block.count);
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
        prefetch_next<T>(image, token, block.channel, conv.x, conv.grad, conv.dx);
    }
    if (start + tokens == conv.tokens)
        for (int j = 0; j < WIDTH - 1; j++) finish_input(conv.tokens + j, Vec{});
    for (int j = 0; j < WIDTH - 1; j++) block.past[j] = past[j];
    for (int j = 0; j < WIDTH - 1; j++) block.slopes[j] = slopes[j];
    for (int j = 0; j < WIDTH; j++) sums.taps[j] += dtaps[j];
    sums.bias += dbias;
}

template <class T, int WIDTH>
static void conv_backward_item(const void* pointer, int64_t item, void* memory) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    ConvBlock* const group = static_cast<ConvBlock*>(memory);
    const int64_t image = item / job.groups, first = item % job.groups * job.blocks_per_group;
    const int blocks = begin_group<WIDTH>(job, first, group);
    ConvSums* const sums = job.sums + image * count_blocks(conv.channels) + first;
    for (int k = 0; k < blocks; k++) sums[k] = ConvSums{};
    for (int64_t start = 0; start < conv.tokens; start += CONV_TILE)
        for (int k = 0; k < blocks; k++) {
            const int tokens = (int)smaller(CONV_TILE, conv.tokens - start);
            conv_backward_tile<T, WIDTH>(conv, image, start, tokens, group[k], sums[k]);
        }
}

// One block's dweight and dbias: the images' sums in their order, whichever thread made them.
template <int WIDTH>
static void reduce_taps(const void* pointer, int64_t index, void*) {
    const ConvJob& job = *static_cast<const ConvJob*>(pointer);
    const Conv& conv = job.conv;
    const int64_t blocks = count_blocks(conv.channels), channel = index * LANES;
    const int count = (int)smaller(LANES, conv.channels - channel);
    ConvSums total{};
    for (int64_t image = 0; image < conv.batch; image++) {
        const ConvSums& sums = job.sums[image * blocks + index];
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
    return for_each(conv.batch * job.groups, threads, sizeof(ConvBlock[GROUP]), body, &job);
}

template <int WIDTH>
static bool conv_backward_of(const Conv& conv, int threads) {
    const int64_t blocks = count_blocks(conv.channels);
    const Buffer sums(sizeof(ConvSums) * conv.batch * blocks);
    if (!sums.data()) return false;
    ConvJob job = divide_conv(conv, threads);
    job.sums = static_cast<ConvSums*>(sums.data());
    const Body body = conv.storage == BFLOAT16 ? conv_backward_item<bfloat16, WIDTH> : conv_backward_item<float, WIDTH>;
    return for_each(conv.batch * job.groups, threads, sizeof(ConvBlock[GROUP]), body, &job) &&
           for_each(blocks, threads, 0, reduce_taps<WIDTH>, &job);
}

// The caller has checked that 2 <= width <= MAX_WIDTH.

static bool conv_forward(const Conv& conv, int threads) {
    if (conv.width == 2) return conv_forward_of<2>(conv, threads);
    if (conv.width == 3) return conv_forward_of<3>(conv, threads);
    return conv_forward_of<4>(conv, threads);
}

static bool conv_backward(const Conv& conv, int threads) {
    if (conv.width == 2) return conv_backward_of<2>(conv, threads);
    if (conv.width == 3) return conv_backward_of<3>(conv, threads);
    return conv_backward_of<4>(conv, threads);
}

}  // namespace rmeeto::RMEETO_ISA
