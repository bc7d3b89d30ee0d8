// Products of tokens with a weight that stays: (rows, depth) times (depth, columns).
//
// The weight is packed once, in panels of a few vectors of columns, depth running along each. A tile keeps the sums of
// ROWS rows and one panel in registers; the rows' numbers enter as broadcast scalars. So every load of a panel serves
// ROWS rows and every broadcast a whole panel, and the multiply-adds alone take the time, for any number of rows.
// In bfloat16 two neighbouring depths stand side by side, as the instruction wants them that multiplies both at once.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE_VECTORS = 4;  // sums, a panel's vectors and a broadcast fill 32 registers
#else
constexpr int TILE_VECTORS = 2;  // ... 16 registers
#endif
constexpr int TILE_ROWS = 6;
constexpr int PANEL = TILE_VECTORS * LANES;

INLINE int64_t count_panels(int64_t columns) { return divide_up(columns, PANEL); }

// How many depths stand side by side in a packed weight.
template <class T>
constexpr int64_t SIDE_BY_SIDE = sizeof(float) / sizeof(T);

template <class T>
INLINE int64_t panel_size(int64_t depth) {
    return divide_up(depth, SIDE_BY_SIDE<T>) * SIDE_BY_SIDE<T> * PANEL;
}

template <class T>
INLINE int64_t packed_size(int64_t columns, int64_t depth) {
    return count_panels(columns) * panel_size<T>(depth);
}

// weight is (columns, depth), as linear layers have it; what a panel has beyond either is zero.
template <class T>
static void pack_weight(const T* weight, int64_t columns, int64_t depth, T* packed) {
    constexpr int64_t PAIR = SIDE_BY_SIDE<T>;
    for (int64_t first = 0; first < columns; first += PANEL, packed += panel_size<T>(depth))
        for (int64_t k = 0; k < panel_size<T>(depth) / PANEL; k++)
            for (int64_t c = 0; c < PANEL; c++)
                packed[k / PAIR * PAIR * PANEL + c * PAIR + k % PAIR] =
                    k < depth && first + c < columns ? weight[(first + c) * depth + k] : T{};
}

// Training packs at every step: a square at a time.
static void pack_weight(const float* weight, int64_t columns, int64_t depth, float* packed) {
    for (int64_t first = 0; first < columns; first += PANEL, packed += depth * PANEL)
        for (int64_t c = 0; c < PANEL; c += LANES)
            for (int64_t k = 0; k < depth; k += LANES) {
                const int deep = (int)smaller(LANES, depth - k);
                Vec square[LANES];
                for (int i = 0; i < LANES; i++) {
                    const int64_t column = first + c + i;
                    square[i] = column < columns ? load(weight + column * depth + k, deep) : Vec{};
                }
                transpose(square);
                for (int i = 0; i < deep; i++) store(packed + (k + i) * PANEL + c, square[i], LANES);
            }
}

// The same of a weight that is (depth, columns): the way back through a linear layer.
static void pack_transposed(const float* weight, int64_t columns, int64_t depth, float* packed) {
    for (int64_t first = 0; first < columns; first += PANEL)
        for (int64_t k = 0; k < depth; k++, packed += PANEL)
            for (int64_t c = 0; c < PANEL; c += LANES) {
                const int64_t left = columns - first - c;
                store(packed + c, left > 0 ? load(weight + k * columns + first + c, (int)smaller(LANES, left)) : Vec{}, LANES);
            }
}

// sum += x[k] * panel[k], for the depths that stand side by side.

INLINE void multiply_add(Vec& sum, float x, Vec panel) { sum += x * panel; }

INLINE void multiply_add(Vec& sum, uint32_t x, Bits panel) {
#if defined(__AVX512BF16__)
    sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(Bits{} + x), (__m512bh)panel);
#else
    const Vec even = (Vec)(panel << 16), odd = (Vec)(panel & 0xffff0000u);
    sum += (Vec)(Bits{} + (x << 16)) * even;
    sum += (Vec)(Bits{} + (x & 0xffff0000u)) * odd;
#endif
}

template <class T>
struct Element;
template <>
struct Element<float> {
    using One = float;
    using Many = Vec;
};
template <>
struct Element<bfloat16> {
    using One = uint32_t;  // two of them
    using Many = Bits;
};

// Numbers in a line of the caches.
template <class T>
constexpr int64_t LINE = 64 / sizeof(T);

// ROWS rows of x, x_stride apart, times the first VECTORS of one panel. Each step asks for one more line from `ahead` on,
// something that is wanted soon and would otherwise be waited for; asking for all of it at once would be waited for as well.
template <class T, int ROWS, int VECTORS>
INLINE void multiply_tile(const T* x, int64_t x_stride, const T* panel, int64_t depth, const T* ahead,
                          Vec (*sums)[TILE_VECTORS]) {
    using One = typename Element<T>::One;
    using Many = typename Element<T>::Many;
    constexpr int64_t PAIR = SIDE_BY_SIDE<T>;
    Vec sum[ROWS][VECTORS] = {};
    int64_t k = 0;
    for (; k + PAIR <= depth; k += PAIR, panel += PAIR * PANEL, ahead += LINE<T>) {
        __builtin_prefetch(ahead, 0, 2);
        Many w[VECTORS];
        for (int j = 0; j < VECTORS; j++) __builtin_memcpy(w + j, panel + j * PAIR * LANES, sizeof(Many));
        UNROLL for (int i = 0; i < ROWS; i++) {
            One a;
            __builtin_memcpy(&a, x + i * x_stride + k, sizeof a);
            for (int j = 0; j < VECTORS; j++) multiply_add(sum[i][j], a, w[j]);
        }
    }
    if (k < depth) {  // an odd depth in pairs
        Many w[VECTORS];
        for (int j = 0; j < VECTORS; j++) __builtin_memcpy(w + j, panel + j * PAIR * LANES, sizeof(Many));
        for (int i = 0; i < ROWS; i++) {
            One a{};
            __builtin_memcpy(&a, x + i * x_stride + k, sizeof(T));
            for (int j = 0; j < VECTORS; j++) multiply_add(sum[i][j], a, w[j]);
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < VECTORS; j++) sums[i][j] = sum[i][j];
}

// `rows` <= TILE_ROWS of them.
template <class T, int VECTORS = TILE_VECTORS>
INLINE void multiply_rows(int rows, const T* x, int64_t x_stride, const T* panel, int64_t depth, const T* ahead,
                          Vec (*sums)[TILE_VECTORS]) {
    switch (rows) {
        case 1: return multiply_tile<T, 1, VECTORS>(x, x_stride, panel, depth, ahead, sums);
        case 2: return multiply_tile<T, 2, VECTORS>(x, x_stride, panel, depth, ahead, sums);
        case 3: return multiply_tile<T, 3, VECTORS>(x, x_stride, panel, depth, ahead, sums);
        case 4: return multiply_tile<T, 4, VECTORS>(x, x_stride, panel, depth, ahead, sums);
        case 5: return multiply_tile<T, 5, VECTORS>(x, x_stride, panel, depth, ahead, sums);
        default: return multiply_tile<T, TILE_ROWS, VECTORS>(x, x_stride, panel, depth, ahead, sums);
    }
}

// The last panel of a weight may have few columns.
template <class T>
INLINE void multiply_columns(int64_t columns, int rows, const T* x, int64_t x_stride, const T* panel, int64_t depth,
                             const T* ahead, Vec (*sums)[TILE_VECTORS]) {
    if (columns > (TILE_VECTORS - 1) * LANES) return multiply_rows(rows, x, x_stride, panel, depth, ahead, sums);
    if (columns > LANES) return multiply_rows<T, TILE_VECTORS - 1>(rows, x, x_stride, panel, depth, ahead, sums);
    return multiply_rows<T, 1>(rows, x, x_stride, panel, depth, ahead, sums);
}

// ---- a product by itself

template <class T>
struct Product {
    const T* x;  // (rows, depth), its rows x_stride apart
    int64_t x_stride;
    const T* weight;    // packed
    const float* bias;  // (columns,) or null
    T* out;             // (rows, columns), out_stride apart
    int64_t out_stride;
    int64_t rows, depth, columns;
    bool is_added;  // to what stands in out; without a bias then
};

template <class T>
struct ProductJob {
    Product<T> product;
    int64_t panels, rows_per_chunk, threads;
};

// A panel and a chunk of the rows. Chunks are small enough to stay in a core's own cache while its panels come by.
template <class T>
static void product_item(const void* pointer, int64_t item, void*) {
    const ProductJob<T>& job = *static_cast<const ProductJob<T>*>(pointer);
    const Product<T>& product = job.product;
    const int64_t size = panel_size<T>(product.depth), chunk = item / job.panels, index = item % job.panels;
    const T* const panel = product.weight + index * size;
    // Of the first chunk, the panel that this thread will probably take next is still in memory.
    const bool is_followed = chunk == 0 && index + job.threads < job.panels;
    const int64_t begin = chunk * job.rows_per_chunk, end = smaller(begin + job.rows_per_chunk, product.rows);
    for (int64_t row = begin; row < end; row += TILE_ROWS) {
        const int rows = (int)smaller(TILE_ROWS, end - row);
        const int64_t asked = (row - begin) / TILE_ROWS * (product.depth / SIDE_BY_SIDE<T>) * LINE<T>;
        const T* const ahead = is_followed && asked < size ? panel + job.threads * size + asked : panel;
        const T* const x = product.x + row * product.x_stride;
        Vec sums[TILE_ROWS][TILE_VECTORS];
        multiply_columns(product.columns - index * PANEL, rows, x, product.x_stride, panel, product.depth, ahead, sums);
        for (int j = 0; j < TILE_VECTORS; j++) {
            const int64_t column = index * PANEL + j * LANES;
            if (column >= product.columns) break;
            const int count = (int)smaller(LANES, product.columns - column);
            const Vec bias = product.bias ? load(product.bias + column, count) : Vec{};
            for (int i = 0; i < rows; i++) {
                T* const out = product.out + (row + i) * product.out_stride + column;
                store(out, sums[i][j] + (product.is_added ? load(out, count) : bias), count);
            }
        }
    }
}

template <class T>
static bool multiply(const Product<T>& product, int threads) {
    if (!product.rows) return true;
    constexpr int64_t CHUNK_BYTES = 1 << 19, LEAST_TILES = 4;
    const int64_t panels = count_panels(product.columns), tiles = divide_up(product.rows, TILE_ROWS);
    const int64_t fitting = CHUNK_BYTES / (TILE_ROWS * product.depth * (int64_t)sizeof(T));
    const int64_t for_all = tiles * panels / (4 * threads);  // so small that all threads finish together
    const int64_t wanted = smaller(fitting, for_all), chunks = divide_up(tiles, wanted < LEAST_TILES ? LEAST_TILES : wanted);
    const ProductJob<T> job{product, panels, divide_up(tiles, chunks) * TILE_ROWS, threads};
    return for_each(chunks * panels, threads, 0, product_item<T>, &job);
}

}  // namespace rmeeto::RMEETO_ISA
