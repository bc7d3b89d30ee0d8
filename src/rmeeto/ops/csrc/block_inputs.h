// What the scans of a block read: convolutions from both ends, and the products that give B, C and the low-rank steps.
#pragma once

#include "block_weights.h"
#include "interface.h"
#include "product.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

// Images [first, first + count) of the batch, with the workspace from that of image `slot` on.
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
        const Taps &forward = packed.taps[i], &backward = packed.taps[packed.lane_groups + i];
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
    for (int64_t first = 0; first < job.packed.lane_groups; first += TILE_VECTORS)
        for (int64_t token = begin; token < begin + rows; token++)
            convolve_token<T, WIDTH>(job, image, token, first, smaller(first + TILE_VECTORS, job.packed.lane_groups));
    for (int direction = 0; direction < 2; direction++) project_steps(job, direction, image, begin, rows);
}

}  // namespace rmeeto::RMEETO_ISA
