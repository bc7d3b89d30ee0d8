// The nearest column of every row; see find_nearest in rmeeto/ops/nearest.py for the meaning.
//
// A matrix product that is never written down. The columns stand packed in panels, one to a lane; a tile of rows keeps
// its sums with PANELS of them in registers while it runs over the features, and what remains of them is each row's
// best column so far, lane by lane. A row looks at the columns [low, high) only, and a tile of rows at those that one
// of them sees, so that rows with similar ranges cost no more than those ranges. The nth best takes n passes: each
// considers only columns that rank after the result of the pass before.
//
// What is compared are words: float32 numbers, brought to unit length before for the cosine; or, where the processor
// multiplies pairs of bfloat16, such pairs as they are stored, and the cosine divides by both lengths in the end.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "positions.h"
#include "product.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int ROW_TILE = LANES == 16 ? 8 : 4;  // what fits into the registers
constexpr int PANELS = 2;
constexpr int ROW_BLOCK = 64;  // rows that share a pair of panels while it is in the nearest cache
constexpr int64_t SPAN = PANELS * LANES;

constexpr float SHORTEST = 1e-12f;  // vectors are divided by this length at least
constexpr float LEAST = -__builtin_inff();

struct NearestRow {
    Vec score;   // the best so far, per lane
    Ints index;  // its column, or -1
    float scale;  // one over its length, where that comes in the end
    int32_t low, high;
    float bound;  // the result of the pass before
    int32_t bound_index;
};

// The columns that at least one of some rows sees lie in [low, high).
struct Seen {
    int32_t low, high;
};

struct NearestJob {
    const Nearest& problem;
    float* packed;  // (image, panel, word, lane)
    float* scales;  // (image, panel, lane): of the columns, as a row has one
    int64_t panels, words, stride;
    int64_t blocks, rows_per_block;
};

INLINE float inverse_length(Vec squares) {
    const float root = __builtin_sqrtf(total(squares));
    return 1 / (root > SHORTEST ? root : SHORTEST);
}

template <class T>
INLINE const T* find_row(const Tokens& from, const Tokens& index, int64_t image, int64_t number) {
    return at<const T>(from, image, index.data ? position(index, image, number) : number, 0);
}

// One row of a or b as words; zeros fill the last vector. Returns the factor that its similarities still need.
template <class T>
INLINE float read_row(const Nearest& problem, const T* from, float* to) {
    Vec squares{};
    for (int64_t c = 0; c < problem.width; c += LANES) {
        const Vec x = load(from + c, (int)smaller(LANES, problem.width - c));
        store(to + c, x, LANES);
        squares += x * x;
    }
    if (problem.distance == COSINE) {
        const float scale = inverse_length(squares);
        for (int64_t c = 0; c < problem.width; c += LANES) store(to + c, load(to + c, LANES) * scale, LANES);
    }
    return 1;
}

INLINE float read_pairs(const Nearest& problem, const bfloat16* from, float* to) {
    bfloat16* const pairs = reinterpret_cast<bfloat16*>(to);
    Vec squares{};
    for (int64_t c = 0; c < problem.width; c += LANES) {
        const Vec x = load(from + c, (int)smaller(LANES, problem.width - c));
        store(pairs + c, x, LANES);
        squares += x * x;
    }
    const int64_t filled = count_lane_groups(problem.width) * LANES;
    for (int64_t c = filled; c < divide_up(filled, 2 * LANES) * 2 * LANES; c += LANES) store(pairs + c, Vec{}, LANES);
    return inverse_length(squares);
}

// Words of WORD from tokens of T.
template <class T, class WORD>
INLINE float read_words(const Nearest& problem, const T* from, float* to) {
    if constexpr (sizeof(WORD) == sizeof(float))
        return read_row(problem, from, to);
    else
        return read_pairs(problem, from, to);
}

template <class T, class WORD>
static void pack_panel(const void* pointer, int64_t item, void* memory) {
    const NearestJob& job = *static_cast<const NearestJob*>(pointer);
    const Nearest& problem = job.problem;
    float* const rows = static_cast<float*>(memory);
    float* const panel = job.packed + item * job.words * LANES;
    const int64_t image = item / job.panels, first = item % job.panels * LANES;
    for (int lane = 0; lane < LANES; lane++) {
        const int64_t column = smaller(first + lane, problem.columns - 1);  // spare lanes hold anything finite
        const T* const row = find_row<T>(problem.b, problem.b_at, image, column);
        job.scales[item * LANES + lane] = read_words<T, WORD>(problem, row, rows + lane * job.stride);
    }
    for (int64_t f = 0; f < job.words; f += LANES) {
        Vec square[LANES];
        for (int lane = 0; lane < LANES; lane++) square[lane] = load(rows + lane * job.stride + f, LANES);
        transpose(square);
        const int present = (int)smaller(LANES, job.words - f);
        for (int i = 0; i < present; i++) store(panel + (f + i) * LANES, square[i], LANES);
    }
}

// Similarity of ROW_TILE rows with COUNT panels; the l2 distance's is left squared.
template <class WORD, int DISTANCE, int COUNT>
INLINE void compare(const NearestJob& job, const float* rows, const float* panels, Vec (*score)[PANELS]) {
    using One = typename Element<WORD>::One;
    using Many = typename Element<WORD>::Many;
    Vec sum[ROW_TILE][COUNT] = {};
    for (int64_t f = 0; f < job.words; f++) {
        Many b[COUNT];
        for (int k = 0; k < COUNT; k++) __builtin_memcpy(b + k, panels + (k * job.words + f) * LANES, sizeof(Many));
        UNROLL for (int i = 0; i < ROW_TILE; i++) {
            One a;
            __builtin_memcpy(&a, rows + i * job.stride + f, sizeof a);
            for (int k = 0; k < COUNT; k++) {
                if constexpr (DISTANCE == COSINE) {
                    multiply_add(sum[i][k], a, b[k]);
                } else {
                    const Vec gap = a - b[k];
                    sum[i][k] -= DISTANCE == L1 ? absolute(gap) : gap * gap;
                }
            }
        }
    }
    for (int i = 0; i < ROW_TILE; i++)
        for (int k = 0; k < COUNT; k++) score[i][k] = sum[i][k];
}

INLINE Ints lanes_from(int64_t first) {
    Ints index;
    for (int i = 0; i < LANES; i++) index[i] = (int32_t)first + i;
    return index;
}

// Columns come in ascending order, so that of equal ones the first stays.
INLINE void keep_better(NearestRow& row, Vec score, Ints index) {
    const Ints behind = (score < row.bound) | ((score == row.bound) & (index > row.bound_index));
    const Ints better = (score > row.score) & (index >= row.low) & (index < row.high) & behind;
    row.score = better ? score : row.score;
    row.index = better ? index : row.index;
}

// The best lane becomes the bound. Where there is none, the row has no more columns: its last find stays.
INLINE void find_best(NearestRow& row) {
    float best = LEAST;
    int32_t index = -1;
    for (int i = 0; i < LANES; i++) {
        const float score = row.score[i];
        if (row.index[i] < 0 || score < best || (score == best && row.index[i] > index)) continue;
        best = score;
        index = row.index[i];
    }
    if (index >= 0) row.bound = best, row.bound_index = index;
}

INLINE Seen seen_by(const NearestRow* rows, int count) {
    Seen seen{INT32_MAX, 0};
    for (int i = 0; i < count; i++) {
        if (rows[i].low >= rows[i].high) continue;
        seen.low = rows[i].low < seen.low ? rows[i].low : seen.low;
        seen.high = rows[i].high > seen.high ? rows[i].high : seen.high;
    }
    return seen;
}

template <class WORD, int DISTANCE>
static void walk_columns(const NearestJob& job, int64_t image, int count, const float* values, NearestRow* rows) {
    for (int i = 0; i < count; i++) rows[i].score = splat(LEAST), rows[i].index = Ints{} - 1;
    Seen by_tile[ROW_BLOCK / ROW_TILE];
    for (int tile = 0; tile < count; tile += ROW_TILE)
        by_tile[tile / ROW_TILE] = seen_by(rows + tile, (int)smaller(ROW_TILE, count - tile));
    const Seen by_any = seen_by(rows, count);
    for (int64_t first = by_any.low / SPAN * SPAN; first < by_any.high; first += SPAN) {
        const int64_t column = image * job.panels * LANES + first;
        const float* const panels = job.packed + column * job.words;
        const int used = first + (PANELS - 1) * LANES < job.problem.columns ? PANELS : 1;
        for (int tile = 0; tile < count; tile += ROW_TILE) {
            const int last = (int)smaller(tile + ROW_TILE, count) - 1;
            const Seen seen = by_tile[tile / ROW_TILE];
            if (seen.low >= first + SPAN || seen.high <= first) continue;
            Vec score[ROW_TILE][PANELS];
            if (used == PANELS)
                compare<WORD, DISTANCE, PANELS>(job, values + tile * job.stride, panels, score);
            else
                compare<WORD, DISTANCE, 1>(job, values + tile * job.stride, panels, score);
            for (int i = tile; i <= last; i++)
                for (int k = 0; k < used; k++) {
                    Vec found = score[i - tile][k];
                    if constexpr (sizeof(WORD) < sizeof(float))
                        found *= rows[i].scale * load(job.scales + column + k * LANES, LANES);
                    keep_better(rows[i], found, lanes_from(first + k * LANES));
                }
        }
    }
    for (int i = 0; i < count; i++) find_best(rows[i]);
}

template <class T, class WORD, int DISTANCE>
static void nearest_item(const void* pointer, int64_t item, void* memory) {
    const NearestJob& job = *static_cast<const NearestJob*>(pointer);
    const Nearest& problem = job.problem;
    NearestRow* const rows = static_cast<NearestRow*>(memory);
    float* const values = reinterpret_cast<float*>(rows + ROW_BLOCK);
    const int64_t image = item / job.blocks, first = item % job.blocks * job.rows_per_block;
    const int count = (int)smaller(job.rows_per_block, problem.rows - first);
    for (int i = 0; i < job.rows_per_block; i++) {
        const int64_t row = smaller(first + i, problem.rows - 1);  // the last tile's spare rows hold anything finite
        const T* const from = find_row<T>(problem.a, problem.a_at, image, row);
        rows[i].scale = read_words<T, WORD>(problem, from, values + i * job.stride);
        const int64_t low = problem.low.data ? position(problem.low, image, row) : row - problem.reach;
        const int64_t high = problem.low.data ? position(problem.high, image, row) : row + problem.reach;
        rows[i].low = (int32_t)(low > 0 ? smaller(low, problem.columns) : 0);
        rows[i].high = (int32_t)(high > 0 ? smaller(high, problem.columns) : 0);
        rows[i].bound = -LEAST;
        rows[i].bound_index = -1;
    }
    for (int64_t walk = 0; walk < smaller(problem.nth, problem.columns); walk++)
        walk_columns<WORD, DISTANCE>(job, image, count, values, rows);
    for (int i = 0; i < count; i++) {
        const bool found = rows[i].bound_index >= 0;  // not among NaNs, nor where nothing is seen
        const float score = found ? rows[i].bound : LEAST;
        const int64_t at = image * problem.rows + first + i;
        problem.similarity[at] = DISTANCE == L2 ? -__builtin_sqrtf(-score) : score;
        problem.index[at] = found ? rows[i].bound_index : smaller(rows[i].low, problem.columns - 1);
    }
}

template <class T, class WORD, int DISTANCE>
static bool nearest_by(const Nearest& problem, int threads) {
    const int64_t panels = divide_up(problem.columns, SPAN) * PANELS;
    const int64_t words = divide_up(problem.width, SIDE_BY_SIDE<WORD>), stride = count_lane_groups(words) * LANES;
    const Buffer packed(sizeof(float) * problem.batch * panels * LANES * words);
    const Buffer scales(sizeof(float) * problem.batch * panels * LANES);
    if (!packed.data() || !scales.data()) return false;
    const int64_t tiles = divide_up(problem.rows, ROW_TILE), wanted = tiles * problem.batch / (4 * threads);
    const int64_t rows_per_block = ROW_TILE * (wanted < 1 ? 1 : smaller(wanted, ROW_BLOCK / ROW_TILE));
    const int64_t blocks = divide_up(problem.rows, rows_per_block);
    const NearestJob job{problem, static_cast<float*>(packed.data()), static_cast<float*>(scales.data()),
                         panels,  words, stride, blocks, rows_per_block};
    const size_t row_bytes = sizeof(float) * stride;
    return for_each(problem.batch * panels, threads, LANES * row_bytes, pack_panel<T, WORD>, &job) &&
           for_each(problem.batch * blocks, threads, ROW_BLOCK * (sizeof(NearestRow) + row_bytes),
                    nearest_item<T, WORD, DISTANCE>, &job);
}

#if defined(__AVX512BF16__)
using CosineWord = bfloat16;
#else
using CosineWord = float;  // two multiplications of halves would gain nothing
#endif

static bool find_nearest(const Nearest& problem, int threads) {
    const bool is_half = problem.storage == BFLOAT16;
    switch (problem.distance) {
        case COSINE:
            return is_half ? nearest_by<bfloat16, CosineWord, COSINE>(problem, threads)
                           : nearest_by<float, float, COSINE>(problem, threads);
        case L1:
            return is_half ? nearest_by<bfloat16, float, L1>(problem, threads)
                           : nearest_by<float, float, L1>(problem, threads);
        default:
            return is_half ? nearest_by<bfloat16, float, L2>(problem, threads)
                           : nearest_by<float, float, L2>(problem, threads);
    }
}

}  // namespace rmeeto::RMEETO_ISA
