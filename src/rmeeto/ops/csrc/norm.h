// Join the residual stream and normalise, and the gradients; see add_norm in rmeeto/ops/norm.py for the meaning.
//
// Every operand is read once and every result written once: a row stays in the nearest cache between the sum of its
// squares and its scaling. With r the row of the stream, s = 1 / rms(r) and g the gradient of the normed row times
// the weight, the stream's gradient is s * g - r * s^3 * mean(g * r) plus the one that comes in from behind.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int64_t NORM_ROWS = 32;  // in an item of work

struct NormJob {
    const Norm& norm;
    float* dweight;  // backward: (item, channel)
};

INLINE float inverse_rms(const Norm& norm, Vec squares) {
    return 1.0f / __builtin_sqrtf(total(squares) / (float)norm.channels + (float)norm.eps);
}

INLINE int64_t norm_items(const Norm& norm) { return divide_up(norm.batch * norm.tokens, NORM_ROWS); }

// Calls visit(image, token) for the rows of an item, in order.
template <class Visit>
INLINE void for_rows(const Norm& norm, int64_t item, const Visit& visit) {
    const int64_t end = smaller((item + 1) * NORM_ROWS, norm.batch * norm.tokens);
    for (int64_t row = item * NORM_ROWS; row < end; row++) visit(row / norm.tokens, row % norm.tokens);
}

template <class X, class Y>
static void norm_item(const void* pointer, int64_t item, void*) {
    const Norm& norm = static_cast<const NormJob*>(pointer)->norm;
    for_rows(norm, item, [&](int64_t image, int64_t token) {
        const X* const x = at<const X>(norm.x, image, token, 0);
        const float* const residual = norm.residual.data ? at<const float>(norm.residual, image, token, 0) : nullptr;
        float* const stream = at<float>(norm.stream, image, token, 0);
        Y* const out = at<Y>(norm.out, image, token, 0);
        Vec squares{};
        for (int64_t c = 0; c < norm.channels; c += LANES) {
            const int count = (int)smaller(LANES, norm.channels - c);
            Vec joined = load(x + c, count);
            if (residual) joined += load(residual + c, count);
            store(stream + c, joined, count);
            squares += joined * joined;
        }
        const float scale = inverse_rms(norm, squares);
        for (int64_t c = 0; c < norm.channels; c += LANES) {
            const int count = (int)smaller(LANES, norm.channels - c);
            store(out + c, scale * load(stream + c, count) * load(norm.weight + c, count), count);
        }
    });
}

template <class Y>
static void norm_backward_item(const void* pointer, int64_t item, void*) {
    const NormJob& job = *static_cast<const NormJob*>(pointer);
    const Norm& norm = job.norm;
    float* const dweight = job.dweight + item * norm.channels;
    for (int64_t c = 0; c < norm.channels; c++) dweight[c] = 0;
    for_rows(norm, item, [&](int64_t image, int64_t token) {
        const float* const stream = at<const float>(norm.stream, image, token, 0);
        const float* const behind = at<const float>(norm.grad_stream, image, token, 0);
        const Y* const grad = at<const Y>(norm.grad, image, token, 0);
        float* const dstream = at<float>(norm.dstream, image, token, 0);
        Vec squares{}, products{};
        for (int64_t c = 0; c < norm.channels; c += LANES) {
            const int count = (int)smaller(LANES, norm.channels - c);
            const Vec r = load(stream + c, count);
            squares += r * r;
            products += load(grad + c, count) * load(norm.weight + c, count) * r;
        }
        const float scale = inverse_rms(norm, squares);
        const float pull = scale * scale * scale * total(products) / (float)norm.channels;
        for (int64_t c = 0; c < norm.channels; c += LANES) {
            const int count = (int)smaller(LANES, norm.channels - c);
            const Vec r = load(stream + c, count), g = load(grad + c, count);
            const Vec own = scale * g * load(norm.weight + c, count) - pull * r;
            store(dstream + c, own + load(behind + c, count), count);
            store(dweight + c, load(dweight + c, count) + scale * g * r, count);
        }
    });
}

// The items' sums in their order, whichever thread made them.
static void reduce_weight(const void* pointer, int64_t index, void*) {
    const NormJob& job = *static_cast<const NormJob*>(pointer);
    const Norm& norm = job.norm;
    const int64_t c = index * LANES;
    const int count = (int)smaller(LANES, norm.channels - c);
    Vec sum{};
    for (int64_t item = 0; item < norm_items(norm); item++)
        sum += load(job.dweight + item * norm.channels + c, count);
    store(norm.dweight + c, sum, count);
}

template <class X>
INLINE Body norm_body(const Norm& norm) {
    return norm.out_storage == BFLOAT16 ? norm_item<X, bfloat16> : norm_item<X, float>;
}

static bool add_norm(const Norm& norm, int threads) {
    const NormJob job{norm, nullptr};
    const Body body = norm.x_storage == BFLOAT16 ? norm_body<bfloat16>(norm) : norm_body<float>(norm);
    return for_each(norm_items(norm), threads, 0, body, &job);
}

static bool add_norm_backward(const Norm& norm, int threads) {
    const Buffer dweight(sizeof(float) * norm_items(norm) * norm.channels);
    if (!dweight.data()) return false;
    const NormJob job{norm, static_cast<float*>(dweight.data())};
    const Body body = norm.out_storage == BFLOAT16 ? norm_backward_item<bfloat16> : norm_backward_item<float>;
    return for_each(norm_items(norm), threads, 0, body, &job) &&
           for_each(count_lane_groups(norm.channels), threads, 0, reduce_weight, &job);
}

}  // namespace rmeeto::RMEETO_ISA
