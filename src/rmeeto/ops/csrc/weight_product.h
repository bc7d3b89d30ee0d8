// Products of tokens with tokens, summed over all of them: (rows, out) and (rows, in) give (out, in), the gradient of a
// weight.
//
// A tile keeps the sums of TILE_ROWS of the weight's rows and one panel of its columns in registers, as in product.h. The
// tokens go by in chunks, copied to where the numbers of a tile lie side by side. An item of work is a part of the
// weight's longer side, so that the larger operand is read once. One thread adds to a tile, in the order of the
// tokens: the result does not depend on the number of threads.
#pragma once

#include "parallel.h"
#include "product.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

struct WeightProduct {
    const float* grad;  // (rows, out), its rows grad_stride apart
    int64_t grad_stride;
    const float* x;  // (rows, in), x_stride apart
    int64_t x_stride;
    float* dweight;  // (out, in)
    int64_t rows, out, in;
};

constexpr int CHUNK_OF_TOKENS = 64;  // a panel of them takes half of the nearest cache

struct GradTile {
    float token[CHUNK_OF_TOKENS][TILE_ROWS];
};
struct PanelChunk {
    Vec token[CHUNK_OF_TOKENS][TILE_VECTORS];
};

// An item's part: tiles and panels from the first up to the last, exclusive.
struct WeightPart {
    int64_t first_tile, last_tile, first_panel, last_panel;
};

struct WeightProductJob {
    const WeightProduct& product;
    int64_t tiles, panels, tiles_per_part, panels_per_part;

    WeightPart part(int64_t item) const {
        const int64_t across = divide_up(panels, panels_per_part);
        const int64_t tile = item / across * tiles_per_part, panel = item % across * panels_per_part;
        return {tile, smaller(tile + tiles_per_part, tiles), panel, smaller(panel + panels_per_part, panels)};
    }
};

// Token by token, as they lie in memory.
INLINE void copy_grad(const WeightProduct& product, int64_t start, int tokens, const WeightPart& part, GradTile* tiles) {
    for (int t = 0; t < tokens; t++) {
        const float* const from = product.grad + (start + t) * product.grad_stride;
        for (int64_t tile = part.first_tile; tile < part.last_tile; tile++) {
            float* const to = tiles[tile - part.first_tile].token[t];
            const int64_t row = tile * TILE_ROWS, left = product.out - row;
            if (left >= TILE_ROWS)
                __builtin_memcpy(to, from + row, sizeof(float[TILE_ROWS]));
            else
                for (int i = 0; i < TILE_ROWS; i++) to[i] = i < left ? from[row + i] : 0.0f;
        }
    }
}

INLINE int present_in(const WeightProduct& product, int64_t panel, int j) {
    const int64_t left = product.in - panel * PANEL - j * LANES;
    return left > 0 ? (int)smaller(LANES, left) : 0;
}

INLINE void copy_panel(const WeightProduct& product, int64_t start, int tokens, int64_t panel, PanelChunk& to) {
    const float* from = product.x + start * product.x_stride + panel * PANEL;
    for (int t = 0; t < tokens; t++, from += product.x_stride)
        for (int j = 0; j < TILE_VECTORS; j++) {
            const int count = present_in(product, panel, j);
            to.token[t][j] = count ? load(from + j * LANES, count) : Vec{};
        }
}

// Adds a chunk to a tile of the gradient, or begins with it. FULL: all rows and columns of the tile are there.
template <bool FULL>
static void add_chunk(const WeightProduct& product, bool is_first, int tokens, int64_t tile, int64_t panel,
                      const GradTile& grad, const PanelChunk& x) {
    const int rows = FULL ? TILE_ROWS : (int)smaller(TILE_ROWS, product.out - tile * TILE_ROWS);
    float* const dweight = product.dweight + tile * TILE_ROWS * product.in + panel * PANEL;
    Vec sum[TILE_ROWS][TILE_VECTORS] = {};
    for (int t = 0; t < tokens; t++)
        UNROLL for (int i = 0; i < TILE_ROWS; i++)
            for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] += grad.token[t][i] * x.token[t][j];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < TILE_VECTORS; j++) {
            float* const to = dweight + i * product.in + j * LANES;
            const int count = FULL ? LANES : present_in(product, panel, j);
            if (count) store(to, is_first ? sum[i][j] : load(to, count) + sum[i][j], count);
        }
}

// Asks for a token of the next chunk, while this one is worked on.
INLINE void prefetch_token(const WeightProduct& product, const WeightPart& part, int64_t token) {
    const float* const grad = product.grad + token * product.grad_stride;
    const float* const x = product.x + token * product.x_stride;
    const int64_t last_row = smaller(part.last_tile * TILE_ROWS, product.out);
    const int64_t last_column = smaller(part.last_panel * PANEL, product.in);
    for (int64_t i = part.first_tile * TILE_ROWS; i < last_row; i += LINE<float>) __builtin_prefetch(grad + i, 0, 2);
    for (int64_t i = part.first_panel * PANEL; i < last_column; i += LINE<float>) __builtin_prefetch(x + i, 0, 2);
}

static void weight_product_item(const void* pointer, int64_t item, void* memory) {
    const WeightProductJob& job = *static_cast<const WeightProductJob*>(pointer);
    const WeightProduct& product = job.product;
    const WeightPart part = job.part(item);
    PanelChunk& x = *static_cast<PanelChunk*>(memory);
    GradTile* const grad = reinterpret_cast<GradTile*>(&x + 1);
    const int64_t products = (part.last_tile - part.first_tile) * (part.last_panel - part.first_panel);
    for (int64_t start = 0; start < product.rows; start += CHUNK_OF_TOKENS) {
        const int tokens = (int)smaller(CHUNK_OF_TOKENS, product.rows - start);
        copy_grad(product, start, tokens, part, grad);
        int64_t done = 0, asked = 0;
        for (int64_t panel = part.first_panel; panel < part.last_panel; panel++) {
            copy_panel(product, start, tokens, panel, x);
            const bool is_full = (panel + 1) * PANEL <= product.in;
            for (int64_t tile = part.first_tile; tile < part.last_tile; tile++, done++) {
                for (; asked < done * CHUNK_OF_TOKENS / products; asked++)
                    if (start + CHUNK_OF_TOKENS + asked < product.rows)
                        prefetch_token(product, part, start + CHUNK_OF_TOKENS + asked);
                const auto add = is_full && (tile + 1) * TILE_ROWS <= product.out ? add_chunk<true> : add_chunk<false>;
                add(product, start == 0, tokens, tile, panel, grad[tile - part.first_tile], x);
            }
        }
    }
}

static bool multiply_tokens(const WeightProduct& product, int threads) {
    WeightProductJob job{product, divide_up(product.out, TILE_ROWS), count_panels(product.in), 0, 0};
    const bool is_tall = product.out >= product.in;
    job.tiles_per_part = is_tall ? divide_up(job.tiles, threads) : job.tiles;
    job.panels_per_part = is_tall ? job.panels : divide_up(job.panels, threads);
    const int64_t parts = divide_up(job.tiles, job.tiles_per_part) * divide_up(job.panels, job.panels_per_part);
    const size_t scratch = sizeof(PanelChunk) + sizeof(GradTile) * job.tiles_per_part;
    return for_each(parts, threads, scratch, weight_product_item, &job);
}

}  // namespace rmeeto::RMEETO_ISA
