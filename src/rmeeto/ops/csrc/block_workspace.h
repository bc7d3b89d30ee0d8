// Workspace of a block's backward pass: packed weights, the part of each image, and what images leave for the sums.
#pragma once

#include "arena.h"
#include "interface.h"
#include "product.h"

namespace rmeeto::RMEETO_ISA {

// Weights packed for the backward pass; dt_proj also for the forward recomputation.
struct WeightsBackward {
    float *in_proj, *out_proj;
    struct {
        float *x_proj, *dt_proj, *dt_proj_ahead;
    } directions[2];

    size_t assign(void* base, const BlockWeights& shape) {
        Arena arena(base);
        in_proj = arena.take<float>(packed_size<float>(shape.dim, 2 * shape.inner));
        out_proj = arena.take<float>(packed_size<float>(shape.inner, shape.dim));
        for (auto& side : directions) {
            side.x_proj = arena.take<float>(packed_size<float>(shape.inner, shape.rank + 2 * shape.states));
            side.dt_proj = arena.take<float>(packed_size<float>(shape.rank, shape.inner));
            side.dt_proj_ahead = arena.take<float>(packed_size<float>(shape.inner, shape.rank));
        }
        return arena.taken();
    }
    void pack(const BlockWeights& weights) const {
        const auto given = [](const void* weight) { return static_cast<const float*>(weight); };
        pack_transposed(given(weights.in_proj), weights.dim, 2 * weights.inner, in_proj);
        pack_transposed(given(weights.out_proj), weights.inner, weights.dim, out_proj);
        for (int k = 0; k < 2; k++) {
            const BlockDirection& side = weights.directions[k];
            pack_transposed(given(side.x_proj), weights.inner, weights.rank + 2 * weights.states, directions[k].x_proj);
            pack_transposed(given(side.dt_proj), weights.rank, weights.inner, directions[k].dt_proj);
            pack_weight(given(side.dt_proj), weights.inner, weights.rank, directions[k].dt_proj_ahead);
        }
    }
};

// One image's summands of the gradients of one direction.
struct DirectionSums {
    float *conv_weight, *conv_bias, *A, *skip, *delta_bias, *x_proj;
    float* dt_proj;  // (rank, inner), transposed

    size_t assign(void* base, const BlockWeights& shape) {
        Arena arena(base);
        conv_weight = arena.take<float>(shape.inner * shape.width);
        conv_bias = arena.take<float>(shape.inner);
        A = arena.take<float>(shape.inner * shape.states);
        skip = arena.take<float>(shape.inner);
        delta_bias = arena.take<float>(shape.inner);
        x_proj = arena.take<float>((shape.rank + 2 * shape.states) * shape.inner);
        dt_proj = arena.take<float>(shape.rank * shape.inner);
        return arena.taken();
    }
};

// Workspace of one image in the backward pass.
struct ImageWorkspace {
    float *dy, *du, *u, *ddelta;  // (token, inner)
    float* dmixed;                // (token, rank + 2 * states)

    size_t assign(void* base, const BlockWeights& shape, int64_t tokens) {
        Arena arena(base);
        dy = arena.take<float>(tokens * shape.inner);
        du = arena.take<float>(tokens * shape.inner);
        u = arena.take<float>(tokens * shape.inner);
        ddelta = arena.take<float>(tokens * shape.inner);
        dmixed = arena.take<float>(tokens * (shape.rank + 2 * shape.states));
        return arena.taken();
    }
};

// What all images leave for the sums at the end.
struct BackwardWorkspace {
    float *gated, *dprojected, *dnormed;  // (image, token): inner, 2 * inner, dim
    float* sums;                          // (direction, image): DirectionSums
    int64_t sums_size;                    // of one of them
    char* images;                         // (worker): ImageWorkspace

    size_t assign(void* base, const BlockWeights& shape, const BlockGradients& tokens, int64_t workers) {
        Arena arena(base);
        const int64_t rows = tokens.batch * tokens.tokens;
        gated = arena.take<float>(rows * shape.inner);
        dprojected = arena.take<float>(rows * 2 * shape.inner);
        dnormed = arena.take<float>(rows * shape.dim);
        sums_size = (int64_t)(DirectionSums{}.assign(nullptr, shape) / sizeof(float));
        sums = arena.take<float>(2 * tokens.batch * sums_size);
        images = arena.take<char>(workers * (int64_t)ImageWorkspace{}.assign(nullptr, shape, tokens.tokens));
        return arena.taken();
    }
};

}  // namespace rmeeto::RMEETO_ISA
