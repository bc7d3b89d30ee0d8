// The nearest column of every row; see find_nearest in rmeeto/ops/nearest.py for the meaning.
//
// A matrix product that is never written down. The columns stand packed in panels, one to a lane; a tile of rows keeps
// its sums with PANELS of them in registers while it runs over the features, and what remains of them is each row's
// best column so far, lane by lane. A row looks at the columns [low, high) only, and a tile of rows at those that one
// of them sees, so that rows whose ranges lie together cost as little as their ranges promise. The nth best takes n
// walks: each sees only what ranks behind the find of the walk before.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "positions.h"
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
    int32_t low, high;
    float bound;  // the find of the walk before
    int32_t bound_index;
};

// The columns that at least one of some rows sees lie in [low, high).
struct Seen {
    int32_t low, high;
};

struct NearestJob {
    const Nearest& problem;
    float* packed;  // (image, panel, feature, lane)
    int64_t panels, stride;
    int64_t blocks, rows_per_block;
};

// One row of a or b in float32, of unit length for the cosine; zeros fill the last vector.
template <class T>
INLINE void read_row(const Nearest& problem, const Tokens& from, const Tokens& index, int64_t image, int64_t number,
                     float* to) {
    const int64_t row = index.data ? position(index, image, number) : number;
    Vec squares{};
    for (int64_t c = 0; c < problem.features; c += LANES) {
        const Vec x = load(at<const T>(from, image, row, c), (int)smaller(LANES, problem.features - c));
        store(to + c, x, LANES);
        squares += x * x;
    }
    if (problem.distance != COSINE) return;
    float square = 0;
    for (int i = 0; i < LANES; i++) square += squares[i];
    const float root = __builtin_sqrtf(square), scale = 1 / (root > SHORTEST ? root : SHORTEST);
    for (int64_t c = 0; c < problem.features; c += LANES) store(to + c, load(to + c, LANES) * scale, LANES);
}

template <class T>
static void pack_panel(const void* pointer, int64_t item, void* memory) {
    const NearestJob& job = *static_cast<const NearestJob*>(pointer);
    const Nearest& problem = job.problem;
    float* const rows = static_cast<float*>(memory);
    float* const panel = job.packed + item * problem.features * LANES;
    const int64_t image = item / job.panels, first = item % job.panels * LANES;
    for (int lane = 0; lane < LANES; lane++) {
        const int64_t column = smaller(first + lane, problem.columns - 1);  // spare lanes hold anything finite
        read_row<T>(problem, problem.b, problem.b_at, image, column, rows + lane * job.stride);
    }
    for (int64_t f = 0; f < problem.features; f += LANES) {
        Vec square[LANES];
        for (int lane = 0; lane < LANES; lane++) square[lane] = load(rows + lane * job.stride + f, LANES);
        transpose(square);
        const int present = (int)smaller(LANES, problem.features - f);
        for (int i = 0; i < present; i++) store(panel + (f + i) * LANES, square[i], LANES);
    }
}

// Similarity of ROW_TILE rows with PANELS panels; the l2 distance's is left squared.
template <int DISTANCE>
INLINE void compare(const NearestJob& job, const float* rows, const float* panels, Vec (*score)[PANELS]) {
    const int64_t features = job.problem.features;
    Vec sum[ROW_TILE][PANELS] = {};
    for (int64_t f = 0; f < features; f++) {
        Vec b[PANELS];
        for (int k = 0; k < PANELS; k++) b[k] = load(panels + (k * features + f) * LANES, LANES);
        UNROLL for (int i = 0; i < ROW_TILE; i++) {
            const float a = rows[i * job.stride + f];
            for (int k = 0; k < PANELS; k++) {
                if (DISTANCE == COSINE) {
                    sum[i][k] += a * b[k];
                } else {
                    const Vec gap = a - b[k];
                    sum[i][k] -= DISTANCE == L1 ? absolute(gap) : gap * gap;
                }
            }
        }
    }
    for (int i = 0; i < ROW_TILE; i++)
        for (int k = 0; k < PANELS; k++) score[i][k] = sum[i][k];
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

template <int DISTANCE>
static void walk_columns(const NearestJob& job, int64_t image, int count, const float* values, NearestRow* rows) {
    for (int i = 0; i < count; i++) rows[i].score = splat(LEAST), rows[i].index = Ints{} - 1;
    Seen by_tile[ROW_BLOCK / ROW_TILE];
    for (int tile = 0; tile < count; tile += ROW_TILE)
        by_tile[tile / ROW_TILE] = seen_by(rows + tile, (int)smaller(ROW_TILE, count - tile));
    const Seen by_any = seen_by(rows, count);
    for (int64_t first = by_any.low / SPAN * SPAN; first < by_any.high; first += SPAN) {
        const float* const panels = job.packed + (image * job.panels * LANES + first) * job.problem.features;
        for (int tile = 0; tile < count; tile += ROW_TILE) {
            const int last = (int)smaller(tile + ROW_TILE, count) - 1;
            const Seen seen = by_tile[tile / ROW_TILE];
            if (seen.low >= first + SPAN || seen.high <= first) continue;
            Vec score[ROW_TILE][PANELS];
            compare<DISTANCE>(job, values + tile * job.stride, panels, score);
            for (int i = tile; i <= last; i++)
                for (int k = 0; k < PANELS; k++) keep_better(rows[i], score[i - tile][k], lanes_from(first + k * LANES));
        }
    }
    for (int i = 0; i < count; i++) find_best(rows[i]);
}

template <class T, int DISTANCE>
static void nearest_item(const void* pointer, int64_t item, void* memory) {
    const NearestJob& job = *static_cast<const NearestJob*>(pointer);
    const Nearest& problem = job.problem;
    NearestRow* const rows = static_cast<NearestRow*>(memory);
    float* const values = reinterpret_cast<float*>(rows + ROW_BLOCK);
    const int64_t image = item / job.blocks, first = item % job.blocks * job.rows_per_block;
    const int count = (int)smaller(job.rows_per_block, problem.rows - first);
    for (int i = 0; i < job.rows_per_block; i++) {
        const int64_t row = smaller(first + i, problem.rows - 1);  // the last tile's spare rows hold anything finite
        read_row<T>(problem, problem.a, problem.a_at, image, row, values + i * job.stride);
        const int64_t low = problem.low.data ? position(problem.low, image, row) : row - problem.reach;
        const int64_t high = problem.low.data ? position(problem.high, image, row) : row + problem.reach;
        rows[i].low = (int32_t)(low > 0 ? smaller(low, problem.columns) : 0);
        rows[i].high = (int32_t)(high > 0 ? smaller(high, problem.columns) : 0);
        rows[i].bound = -LEAST;
        rows[i].bound_index = -1;
    }
    for (int64_t walk = 0; walk < smaller(problem.nth, problem.columns); walk++)
        walk_columns<DISTANCE>(job, image, count, values, rows);
    for (int i = 0; i < count; i++) {
        const bool found = rows[i].bound_index >= 0;  // not among NaNs, nor where nothing is seen
        const float score = found ? rows[i].bound : LEAST;
        const int64_t at = image * problem.rows + first + i;
        problem.similarity[at] = DISTANCE == L2 ? -__builtin_sqrtf(-score) : score;
        problem.index[at] = found ? rows[i].bound_index : smaller(rows[i].low, problem.columns - 1);
    }
}

template <class T>
static bool nearest_of(const Nearest& problem, int threads) {
    const int64_t panels = (problem.columns + SPAN - 1) / SPAN * PANELS;
    const int64_t stride = count_blocks(problem.features) * LANES;
    const Buffer packed(sizeof(float) * problem.batch * panels * LANES * problem.features);
    if (!packed.data()) return false;
    const int64_t tiles = (problem.rows + ROW_TILE - 1) / ROW_TILE, wanted = tiles * problem.batch / (4 * threads);
    const int64_t rows_per_block = ROW_TILE * (wanted < 1 ? 1 : smaller(wanted, ROW_BLOCK / ROW_TILE));
    const int64_t blocks = (problem.rows + rows_per_block - 1) / rows_per_block;
    const NearestJob job{problem, static_cast<float*>(packed.data()), panels, stride, blocks, rows_per_block};
    const Body body = problem.distance == COSINE ? nearest_item<T, COSINE>
                      : problem.distance == L1   ? nearest_item<T, L1>
                                                 : nearest_item<T, L2>;
    const size_t row_bytes = sizeof(float) * stride;
    return for_each(problem.batch * panels, threads, LANES * row_bytes, pack_panel<T>, &job) &&
           for_each(problem.batch * blocks, threads, ROW_BLOCK * (sizeof(NearestRow) + row_bytes), body, &job);
}

static bool nearest(const Nearest& problem, int threads) {
    return problem.storage == BFLOAT16 ? nearest_of<bfloat16>(problem, threads) : nearest_of<float>(problem, threads);
}

}  // namespace rmeeto::RMEETO_ISA
