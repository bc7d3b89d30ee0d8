// Workspace of a block's backward pass: packed weights, the part of each image, and what images leave for the sums.
#pragma once

#include "interface.h"
#include "pieces.h"
#include "product.h"

namespace rmeeto::RMEETO_ISA {

// Weights packed for the backward pass; dt_proj also for the forward recomputation.
struct WeightsBackward {
    float *in_proj, *out_proj;
    struct {
        float *x_proj, *dt_proj, *dt_proj_ahead;
    } directions[2];

    size_t lay_out(void* base, const BlockWeights& shape) {
        Pieces pieces(base);
        in_proj = pieces.take<float>(packed_size<float>(shape.dim, 2 * shape.inner));
        out_proj = pieces.take<float>(packed_size<float>(shape.inner, shape.dim));
        for (auto& side : directions) {
            side.x_proj = pieces.take<float>(packed_size<float>(shape.inner, shape.rank + 2 * shape.states));
            side.dt_proj = pieces.take<float>(packed_size<float>(shape.rank, shape.inner));
            side.dt_proj_ahead = pieces.take<float>(packed_size<float>(shape.inner, shape.rank));
        }
        return pieces.taken();
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

    size_t lay_out(void* base, const BlockWeights& shape) {
        Pieces pieces(base);
        conv_weight = pieces.take<float>(shape.inner * shape.width);
        conv_bias = pieces.take<float>(shape.inner);
        A = pieces.take<float>(shape.inner * shape.states);
        skip = pieces.take<float>(shape.inner);
        delta_bias = pieces.take<float>(shape.inner);
        x_proj = pieces.take<float>((shape.rank + 2 * shape.states) * shape.inner);
        dt_proj = pieces.take<float>(shape.rank * shape.inner);
        return pieces.taken();
    }
};

// Workspace of one image in the backward pass.
struct ImageRoom {
    float *dy, *du, *u, *ddelta;  // (token, inner)
    float* dmixed;                // (token, rank + 2 * states)

    size_t lay_out(void* base, const BlockWeights& shape, int64_t tokens) {
        Pieces pieces(base);
        dy = pieces.take<float>(tokens * shape.inner);
        du = pieces.take<float>(tokens * shape.inner);
        u = pieces.take<float>(tokens * shape.inner);
        ddelta = pieces.take<float>(tokens * shape.inner);
        dmixed = pieces.take<float>(tokens * (shape.rank + 2 * shape.states));
        return pieces.taken();
    }
};

// What all images leave for the sums at the end.
struct BackwardRoom {
    float *gated, *dprojected, *dnormed;  // (image, token): inner, 2 * inner, dim
    float* sums;                          // (direction, image): DirectionSums
    int64_t sums_size;                    // of one of them
    char* images;                         // (worker): ImageRoom

    size_t lay_out(void* base, const BlockWeights& shape, const BlockGradients& tokens, int64_t workers) {
        Pieces pieces(base);
        const int64_t rows = tokens.batch * tokens.tokens;
        gated = pieces.take<float>(rows * shape.inner);
        dprojected = pieces.take<float>(rows * 2 * shape.inner);
        dnormed = pieces.take<float>(rows * shape.dim);
        sums_size = (int64_t)(DirectionSums{}.lay_out(nullptr, shape) / sizeof(float));
        sums = pieces.take<float>(2 * tokens.batch * sums_size);
        images = pieces.take<char>(workers * (int64_t)ImageRoom{}.lay_out(nullptr, shape, tokens.tokens));
        return pieces.taken();
    }
};

}  // namespace rmeeto::RMEETO_ISA
